"""Covers pipelines.data.read: the same samples from tar and Parquet, no row lost; wrong and absent shards differ."""

import hashlib
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import storage
from pipelines.data import read
from pipelines.records import CHUNK, Dataset, Sample, Shard
from pipelines.storage import s3_retries
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.shard_files import (
    FOLDER,
    SAMPLES,
    WriteTar,
    as_ours,
    failure,
    members_of,
    read_all,
    shard_at,
    tar_of,
    write_both,
)


@FOLDER
@given(samples=SAMPLES)
def test_tar_and_parquet_give_back_what_was_packed(tmp_path, samples: list[Sample]) -> None:
    for path in write_both(tmp_path, samples):
        assert read_all(path, **as_ours(path)) == samples


@FOLDER
@given(count=st.integers(1, 30), batch_size=st.integers(1, 12))
def test_chunks_are_consecutive_full_but_the_last_and_only_the_last_says_so(tmp_path, count, batch_size) -> None:
    samples = [Sample(key=f"k{i}", image=b"%d" % i, label=i if i % 3 else None) for i in range(count)]
    for path in write_both(tmp_path, samples):
        chunks = list(read.chunks(7, shard_at(path), batch_size))
        assert all(chunk.schema == CHUNK and chunk.num_rows == 1 for chunk in chunks)
        rows = [chunk.to_pylist()[0] for chunk in chunks]
        assert [row["start"] for row in rows] == list(range(0, count, batch_size))
        assert [row["last"] for row in rows] == [False] * (len(rows) - 1) + [True]
        assert {row["shard"] for row in rows} == {7}
        assert {row["failure"] for row in rows} == {None}
        assert [len(row["keys"]) for row in rows[:-1]] == [batch_size] * (len(rows) - 1)
        read_back = list(read.samples(shard_at(path)))
        for field in ("key", "label", "image", "error", "offset"):
            assert [value for row in rows for value in row[f"{field}s"]] == [getattr(each, field) for each in read_back]


def test_a_table_of_shards_is_read_as_each_shard_alone(tmp_path) -> None:
    tar, parquet = write_both(tmp_path, [Sample(key=str(i), image=b"x", label=i) for i in range(5)])
    shards = [shard_at(tar, limit=3), shard_at(parquet, rows=5), shard_at(tmp_path / "none.tar")]
    together = list(read.read_shards(read.shard_rows(shards, [4, 0, 9]), 2))
    alone = [
        chunk for position, shard in zip([4, 0, 9], shards, strict=True) for chunk in read.chunks(position, shard, 2)
    ]
    assert together == alone
    assert [chunk["shard"][0].as_py() for chunk in together] == [4, 4, 0, 0, 0, 9]


def test_shards_are_read_alike_from_every_store(store: str) -> None:
    samples = [Sample(key=f"s/{i}.v1", image=bytes([i]) * 3000, label=i) for i in range(40)]
    storage.put(f"{store}/a.tar", tar_of(members_of(samples)))
    storage.put(f"{store}/cut.tar", tar_of(members_of(samples))[: 4096 * 5])
    assert read_all(f"{store}/a.tar") == samples
    assert "ReadError" in failure(f"{store}/cut.tar")
    assert "none.tar" in failure(f"{store}/none.tar")
    assert "none.parquet" in failure(f"{store}/none.parquet")


def test_a_key_that_comes_again_is_an_error_row_wherever_it_comes(tmp_path, write_tar: WriteTar) -> None:
    members = [("a.jpg", b"1"), ("a.jpg", b"2"), ("a.cls", b"5"), ("b.jpg", b"3"), ("a.webp", b"6"), ("b.jpg", b"4")]
    write_tar(tmp_path / "a.tar", members)
    samples = read_all(tmp_path / "a.tar")
    assert [(sample.key, sample.image) for sample in samples] == [
        ("a", b"1"), ("a", None), ("b", b"3"), ("a", None), ("b", None)
    ]  # fmt: skip
    assert [sample.error for sample in samples if sample.error] == [
        "duplicate key: 'a' is row 0 already",
        "duplicate key: 'a' is row 0 already",
        "duplicate key: 'b' is row 2 already",
    ]


def test_a_sample_whose_members_stand_apart_fails_the_shard_and_is_not_counted_twice(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "a.tar", [(name, b"1") for name in ("a.jpg", "b.jpg", "a.cls", "b.cls")])
    with pytest.raises(read.ShardError, match="members of sample 'a' are not adjacent"):
        list(read.samples(shard_at(tmp_path / "a.tar")))


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_a_shard_is_held_against_its_manifest(tmp_path, suffix: str) -> None:
    samples = [Sample(key=str(i), image=b"x" * 99, label=i) for i in range(5)]
    path = {path.suffix[1:]: path for path in write_both(tmp_path, samples)}[suffix]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_all(path, rows=5, sha256=digest) == samples
    assert failure(path, rows=6) == "holds 5 samples, its manifest says 6"
    assert failure(path, rows=4) == "holds 5 samples, its manifest says 4"
    assert failure(path, rows=5, sha256="0" * 64) == (
        f"SHA-256 {digest[:12]}… differs from its manifest's 000000000000…"
    )


def test_one_flipped_bit_of_an_image_is_seen_by_the_manifests_digest(tmp_path) -> None:
    for path in write_both(tmp_path, [Sample(key="a", image=b"\x55" * 3000, label=1)]):
        data = path.read_bytes()
        at = data.index(b"\x55" * 3000) + 1500
        flipped = data[:at] + b"\x54" + data[at + 1 :]
        assert "SHA-256" in failure(path, flipped, sha256=hashlib.sha256(data).hexdigest())


def ending(shard: Shard) -> tuple[str | None, bool | None]:
    """Why the shard fails, if it does, and whether that may be over by the next attempt."""
    *_, last = read.chunks(0, shard, 2)
    (row,) = last.to_pylist()
    assert row["last"] is (row["failure"] is None)
    return row["failure"], row["transient"]


@pytest.fixture
def remote(faulty_s3, monkeypatch) -> tuple[Shard, FaultProxy]:
    """A sound shard with a manifest, and the proxy that it is behind; a store that is away is soon given up."""
    for patience in ("_PATIENCE_SECONDS", "_FIRST_SECONDS"):
        monkeypatch.setattr(s3_retries, patience, 0)
    uri, proxy = faulty_s3
    data = tar_of([(f"{i}.jpg", b"x" * 3000) for i in range(3)])
    storage.put(f"{uri}/a.tar", data)
    return shard_at(f"{uri}/a.tar", rows=3, sha256=hashlib.sha256(data).hexdigest()), proxy


def test_a_bit_that_was_flipped_on_the_way_does_not_condemn_a_shard(remote) -> None:
    shard, proxy = remote
    proxy.faults.append(Fault("bitflip", match="^GET .*a.tar", times=1))
    reason, transient = ending(shard)
    assert reason
    assert transient
    assert ending(shard) == (None, None)


def test_a_shard_that_is_wrong_time_and_again_is_condemned_in_any_store(remote) -> None:
    shard, _ = remote
    assert ending(replace(shard, rows=4)) == ("holds 3 samples, its manifest says 4", False)


@pytest.mark.parametrize("when", ["at its beginning", "within", "at its end"])
def test_a_shard_whose_store_is_away_is_told_from_one_that_is_wrong(remote, when: str) -> None:
    shard, proxy = remote
    no_head, no_get = Fault("status", match="^HEAD"), Fault("status", match="^GET")
    later = Fault("after", match="^GET", call=lambda: proxy.faults.append(no_head))
    proxy.faults.append({"at its beginning": no_head, "within": no_get, "at its end": later}[when])
    reason, transient = ending(shard)
    assert reason
    assert reason.startswith(f"{shard.uri}: ")
    assert transient
    with pytest.raises(storage.UnavailableError):
        list(read.samples(shard))


def test_a_shard_whose_store_goes_away_before_it_can_be_read_again_is_not_condemned(remote) -> None:
    shard, proxy = remote
    proxy.faults += [Fault("bitflip", match="^GET .*a.tar", times=1), Fault("status", match="^GET")]
    assert ending(shard)[1]


def test_a_limit_counts_nothing_while_the_store_is_away(remote) -> None:
    shard, proxy = remote
    proxy.faults.append(Fault("status"))
    with pytest.raises(storage.UnavailableError):
        read.limited(Dataset(name="d", source="s", shards=(replace(shard, rows=None),)), 2)


def test_a_shard_of_more_samples_than_any_should_hold_fails(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(read, "MAX_SAMPLES", 5)
    (tmp_path / "a.tar").write_bytes(tar_of([(f"{i}.jpg", b"") for i in range(5)]))
    assert len(read_all(tmp_path / "a.tar")) == 5
    endless = tar_of([(f"{i}.jpg", b"") for i in range(6)])
    assert failure(tmp_path / "a.tar", endless) == "holds more than 5 samples"


def test_a_shard_that_changes_while_it_is_read_fails(tmp_path, write_tar: WriteTar) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", b"1")])
    listed = shard_at(tmp_path / "a.tar")
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", b"2")])
    with pytest.raises(read.ShardError, match="changed since it was listed"):
        list(read.samples(listed))


def dataset_of(folder: Path, sizes: list[int], manifest: bool) -> Dataset:
    shards = []
    for position, size in enumerate(sizes):
        path = folder / f"{position}.tar"
        path.write_bytes(tar_of([(f"{position}-{i}.jpg", b"x") for i in range(size)]))
        shards.append(shard_at(path, rows=size if manifest else None))
    return Dataset(name="d", source=str(folder), shards=tuple(shards))


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("most", range(1, 12))
def test_a_limit_keeps_the_first_samples_with_and_without_a_manifest(tmp_path, manifest: bool, most: int) -> None:
    dataset = dataset_of(tmp_path, [3, 1, 5], manifest)
    cut = read.limited(dataset, most)
    everything = [sample for shard in dataset.shards for sample in read.samples(shard)]
    assert [sample for shard in cut.shards for sample in read.samples(shard)] == everything[:most]
    assert all(list(read.samples(shard)) for shard in cut.shards)
    assert cut.shards[:-1] == dataset.shards[: len(cut.shards) - 1]
    whole = most in {3, 4} or most >= 9
    assert (cut.shards[-1] == dataset.shards[len(cut.shards) - 1]) is whole
    assert (cut == dataset) is (most >= 9)


@pytest.mark.parametrize("most", [0, -1, -10])
def test_a_limit_that_is_not_positive_is_refused(tmp_path, most: int) -> None:
    with pytest.raises(ValueError, match=f"--limit {most}: expected a positive number"):
        read.limited(dataset_of(tmp_path, [1], False), most)


def test_a_limit_does_not_hide_a_shard_that_cannot_be_read(tmp_path) -> None:
    dataset = dataset_of(tmp_path, [4, 4, 4], False)
    path = Path(dataset.shards[0].uri)
    path.write_bytes(path.read_bytes()[:2048])
    assert read.limited(dataset, 5).shards == (*dataset.shards[:2], replace(dataset.shards[2], limit=1))


def test_a_limited_shard_is_held_against_its_digest_though_not_its_rows(tmp_path) -> None:
    (shard,) = dataset_of(tmp_path, [9], True).shards
    shard = replace(shard, sha256=hashlib.sha256(Path(shard.uri).read_bytes()).hexdigest(), rows=9, limit=4)
    rows = [chunk.to_pylist()[0] for chunk in read.chunks(0, shard, 3)]
    assert [(row["start"], row["last"], row["failure"]) for row in rows] == [(0, False, None), (3, True, None)]
    *_, failed = read.chunks(0, replace(shard, sha256="0" * 64), 3)
    assert "SHA-256" in failed.to_pylist()[0]["failure"]


def test_twenty_thousand_samples_are_read_in_memory_of_keys_alone(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([(f"{i:05d}.jpg", b"x" * 100) for i in range(20_000)]))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read.samples(shard_at(tmp_path / "a.tar"))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 12e6
    finally:
        tracemalloc.stop()
