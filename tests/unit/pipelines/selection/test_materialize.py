"""Covers materialize, groups and thumbnails: each chosen image once, mixed and even, however often it breaks off."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.packing.pack import Target
from pipelines.records import Dataset, Sample
from pipelines.selection import materialize, thumbnails
from pipelines.selection.files import CHOSEN, Selection
from pipelines.selection.groups import GROUP_BYTES, expected_bytes, group_shards
from tests.support import fake_pools

SHARDS, IMAGES, CLASSES = 6, 20, 4


def rows_of(places: list[tuple[int, int, int]]) -> pa.Table:
    """CHOSEN rows of (label, shard, index), ranked as they come."""
    counts: Counter[int] = Counter()
    rows = []
    for label, shard, index in sorted(places):
        counts[label] += 1
        rows.append({"label": label, "rank": counts[label], "score": 1 / counts[label], "shard": shard, "index": index})
    return pa.Table.from_pylist(rows, schema=CHOSEN)


@pytest.fixture(scope="module")
def content() -> list[list[bytes]]:
    rng = np.random.default_rng(0)
    return [[rng.bytes(int(rng.integers(50, 400))) for _ in range(IMAGES)] for _ in range(SHARDS)]


@pytest.fixture
def chosen(content, write_tar, tmp_path) -> Selection:
    for number, images in enumerate(content):
        write_tar(tmp_path / "pool" / f"{number}.tar", [(f"{i:03}.jpg", image) for i, image in enumerate(images)])
    rng = np.random.default_rng(1)
    places = {(int(rng.integers(CLASSES)), int(rng.integers(SHARDS - 1)), int(rng.integers(IMAGES))) for _ in range(90)}
    pool = find_dataset([f"{tmp_path}/pool"])
    return Selection(pool=pool, chosen=rows_of(sorted(places)), facts=fake_pools.facts("abcd0123"))


def target(tmp_path: Path, **changes) -> Target:
    return Target(**{"output": f"{tmp_path}/out", "format": "tar", "samples_per_shard": 16} | changes)


def run(chosen: Selection, where: Target, shown: np.ndarray | None = None) -> pa.Table:
    groups = group_shards(chosen.pool, chosen.chosen, where.samples_per_shard)
    nothing = np.zeros(len(chosen.chosen), bool)
    return materialize.materialize(chosen, groups, where, nothing if shown is None else shown, lambda *_: None)


def written(where: Target) -> dict[str, bytes]:
    found = storage.list_objects(where.output)
    return {
        entry.uri.removeprefix(where.output): storage.read(entry.uri) for entry in found if "notes" not in entry.uri
    }


def samples(where: Target) -> list[list[Sample]]:
    return [list(read.samples(shard)) for shard in find_dataset([where.output]).shards]


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_every_chosen_image_is_there_once_with_its_bytes_and_label(
    chosen, content, tmp_path, monkeypatch, form
) -> None:
    where = target(tmp_path, format=form)
    run(chosen, where)
    every = [sample for shard in samples(where) for sample in shard]
    expected = {
        materialize.key_of(row["label"], row["rank"]): (row["label"], content[row["shard"]][row["index"]])
        for row in chosen.chosen.to_pylist()
    }
    assert len(every) == len(expected) == len(chosen.chosen)
    assert {sample.key: (sample.label, sample.image) for sample in every} == expected


@pytest.mark.usefixtures("local_ray")
def test_an_interrupted_run_is_completed_to_the_same_bytes(chosen, tmp_path) -> None:
    whole, again = target(tmp_path), target(tmp_path, output=f"{tmp_path}/again")
    shown = np.arange(len(chosen.chosen)) % 9 == 0
    thumbs = run(chosen, whole, shown)
    run(chosen, again, shown)
    for name in ("manifest.json", "000001.tar", "000003.tar"):
        (tmp_path / "again" / name).unlink()
    storage.remove([entry.uri for entry in storage.list_objects(f"{again.output}/notes")])
    assert run(chosen, again, shown).equals(thumbs)
    assert written(again) == written(whole)


@pytest.mark.usefixtures("local_ray")
def test_score_rank_and_source_lie_beside_each_image(chosen, tmp_path) -> None:
    where = target(tmp_path, format="parquet")
    run(chosen, where)
    table = pa.concat_tables(
        pq.read_table(pa.BufferReader(data)) for name, data in written(where).items() if "parquet" in name
    )
    (first,) = (row for row in table.to_pylist() if row["key"] == "00002-0000001")
    row = next(row for row in chosen.chosen.to_pylist() if (row["label"], row["rank"]) == (2, 1))
    assert (first["rank"], first["score"]) == (1, 1.0)
    assert first["source"] == f"{row['shard']}/{row['index']}/{row['index']:03}"
    run(chosen, target(tmp_path, output=f"{tmp_path}/tars"))
    with (tmp_path / "tars" / "000000.tar").open("rb") as file:
        assert json.loads(file.read().split(b'{"rank"')[1].split(b"}")[0].join([b'{"rank"', b"}"]))["rank"] >= 1


@pytest.mark.usefixtures("local_ray")
def test_a_pool_that_changed_or_another_selection_in_the_folder_is_refused(chosen, write_tar, tmp_path) -> None:
    where = target(tmp_path)
    run(chosen, where)
    other = replace(chosen, chosen=chosen.chosen.slice(0, 40), facts=fake_pools.facts("00000000"))
    for owner, place in ((other, where), (chosen, target(tmp_path, samples_per_shard=7))):
        with pytest.raises(ValueError, match="says that the folder is for something else; choose a new folder"):
            run(owner, place)
    write_tar(tmp_path / "pool" / "1.tar", [("000.jpg", b"x")])
    with pytest.raises(ValueError, match=r"pool/1.tar: \d+ chosen samples are not in it|1.tar: changed since"):
        run(chosen, target(tmp_path, output=f"{tmp_path}/new"))


@pytest.mark.usefixtures("local_ray")
def test_other_thumbnails_of_what_is_written_are_cut_when_they_are_asked_for(write_tar, jpegs, tmp_path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [(f"{i}.jpg", jpegs[i]) for i in range(4)])
    selection = Selection(
        pool=find_dataset([f"{tmp_path}/pool"]),
        chosen=rows_of([(0, 0, 0), (0, 0, 1), (1, 0, 2), (1, 0, 3)]),
        facts=fake_pools.facts("abcd0123"),
    )
    run(selection, where := target(tmp_path), np.array([True, False, False, False]))
    before = written(where)
    shown = run(selection, where, np.array([False, False, True, True]))
    assert set(zip(shown["label"].to_pylist(), shown["rank"].to_pylist(), strict=True)) == {(1, 1), (1, 2)}
    assert all(shown["pixels"].to_pylist())
    assert written(where) == before


def test_thumbnails_are_of_the_ranks_that_are_asked_for(write_tar, jpegs, tmp_path) -> None:
    images = [*jpegs[:3], b"no picture"]
    write_tar(tmp_path / "pool" / "0.tar", [(f"{i:03}.jpg", image) for i, image in enumerate(images)])
    rows = rows_of([(0, 0, i) for i in range(4)])
    few = Selection(pool=find_dataset([f"{tmp_path}/pool"]), chosen=rows, facts=fake_pools.facts("1"))
    table = run(few, target(tmp_path), np.array([True, False, True, True]))
    assert table["rank"].to_pylist() == [1, 3, 4]
    assert [len(pixels) for pixels in table["pixels"].to_pylist()] == [thumbnails.GEOMETRY.size**2 * 3] * 2 + [0]


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=12),
    size=st.integers(1, 400 << 20),
    most=st.integers(1, 60),
)
def test_groups_hold_each_shard_once_and_their_outputs_are_even_and_mixed(counts, size, most) -> None:
    found = fake_pools.pool(len(counts))
    pool = Dataset(name="p", source="x", shards=tuple(replace(shard, size=size, rows=50) for shard in found.shards))
    places = [(shard % 5, shard, i) for shard, number in enumerate(counts) for i in range(number)]
    made = group_shards(pool, rows_of(places), most)
    assert sorted(at for group in made for at in group.shards) == [at for at, number in enumerate(counts) if number]
    assert sum(group.samples for group in made) == sum(counts)
    starts = [group.first for group in made]
    assert starts == [sum(group.outputs for group in made[:n]) for n in range(len(made))]
    for group in made:
        dealt = group.dealt([f"{at}" for at in range(group.samples)])
        assert sorted(at for part in dealt for at in part) == list(range(group.samples))
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
        assert max(map(len, dealt)) <= max(2 * most, 1)
        held = [expected_bytes(pool, at, counts[at]) for at in group.shards]
        assert len(held) == 1 or sum(held) <= GROUP_BYTES


def test_a_sorted_pool_is_mixed() -> None:
    found = fake_pools.pool(8)
    pool = Dataset(name="p", source="x", shards=tuple(replace(shard, rows=50) for shard in found.shards))
    rows = rows_of([(shard, shard, i) for shard in range(8) for i in range(50)])
    (group,) = group_shards(pool, rows, 100)
    labels = [label for label in range(8) for _ in range(50)]
    for part in group.dealt([hashlib.sha256(str(i).encode()).hexdigest() for i in range(400)]):
        assert min(Counter(labels[at] for at in part).values()) >= 3
