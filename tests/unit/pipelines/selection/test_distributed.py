"""Covers distributed and files: a selection by Ray tasks is that of one fold, whatever was done before."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import storage
from pipelines.cells.cell import cell_uri, load_cells
from pipelines.cells.plan import plan_cells
from pipelines.selection import candidates, distributed
from pipelines.selection.candidates import PoolCounts, Rule
from pipelines.selection.files import (
    FACTS_FILE,
    POOL_FILE,
    TABLE_FILE,
    Selection,
    by_rank,
    read_selection,
    write_selection,
)
from pipelines.selection.topk import Candidates, TopK
from tests.support import fake_pools
from tests.support.fake_pools import CLASSES, COLUMN

pytestmark = pytest.mark.usefixtures("local_ray")
POOL = fake_pools.pool(70)
RULE = Rule(k=20)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    place = str(tmp_path_factory.mktemp("store"))
    rng = np.random.default_rng(0)
    fake_pools.publish(place, POOL, [fake_pools.random_cell(rng, 10) for _ in POOL.shards])
    return place


def select(store: str, parts: Path | str, rule: Rule = RULE) -> list[dict]:
    best = distributed.select(store, plan_cells(store, POOL, [COLUMN]), rule, str(parts), lambda _: None).best
    return by_rank(best).to_pylist()


def one_fold(store: str, rule: Rule = RULE) -> list[dict]:
    fold = TopK(CLASSES, rule.k, distinct=rule.dedup)
    for position, (shard, rows) in enumerate(load_cells(store, POOL, COLUMN)):
        fold.add(candidates.of_cell(rows, shard, position, rule, fold.least)[0])
    return by_rank(fold.best()).to_pylist()


@pytest.mark.parametrize("rule", [RULE, Rule(k=5, score="logit", dedup=True), Rule(k=10**6), Rule(k=3, shards=("*",))])
def test_tasks_over_groups_give_what_one_fold_gives(store, tmp_path, rule) -> None:
    chosen = select(store, tmp_path, rule)
    assert chosen == (one_fold(store, rule) if rule.shards != ("*",) else [])


def test_what_was_found_before_is_not_found_again_and_a_damaged_part_is(store, tmp_path, monkeypatch) -> None:
    first = select(store, tmp_path)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == ["000000.parquet", "000001.parquet", "000002.parquet"]
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:-9])
    before = parts[2].stat().st_mtime_ns
    assert select(store, tmp_path) == first
    assert sorted(tmp_path.iterdir()) == parts
    assert parts[2].stat().st_mtime_ns == before


def test_from_a_shard_without_a_cell_nothing_is_chosen_and_a_damaged_cell_is_named(store, tmp_path) -> None:
    rng = np.random.default_rng(1)
    fake_pools.publish(str(tmp_path), POOL, [fake_pools.random_cell(rng, 2) for _ in POOL.shards])
    gone = cell_uri(str(tmp_path), POOL, COLUMN, POOL.shards[3])
    content = storage.read(gone)
    storage.replace(gone, content[:-20] + b"x" + content[-19:])
    with pytest.raises(ValueError, match=r"00003-.* is damaged"):
        select(str(tmp_path), tmp_path / "parts")
    storage.remove([gone])
    chosen = select(str(tmp_path), tmp_path / "parts", Rule(k=1000))
    taken = {row["shard"] for row in chosen}
    assert len(taken) > 60 and 3 not in taken
    whole, part = plan_cells(store, POOL, [COLUMN]), plan_cells(str(tmp_path), POOL, [COLUMN])
    assert distributed.selection_id(store, whole, RULE) != distributed.selection_id(str(tmp_path), part, RULE)


def test_a_cell_that_was_computed_again_makes_another_selection(store) -> None:
    plan = plan_cells(store, POOL, [COLUMN])
    before = distributed.selection_id(store, plan, RULE)
    assert distributed.selection_id(store, plan, RULE) == before
    cell = cell_uri(store, POOL, COLUMN, POOL.shards[3])
    storage.replace(cell, storage.read(cell))
    assert distributed.selection_id(store, plan, RULE) != before


def test_a_cell_that_is_committed_after_the_plan_is_no_part_of_the_selection(store) -> None:
    before = plan_cells(store, POOL, [COLUMN])
    incomplete = replace(before, missing=((5,),))
    assert distributed.selection_id(store, incomplete, RULE) != distributed.selection_id(store, before, RULE)
    assert all(5 not in group for group in distributed.groups(incomplete, RULE))


def test_what_is_left_out_is_counted_whatever_was_done_before(store, tmp_path) -> None:
    rule = Rule(k=5, keys=frozenset({"k1", "k2"}))
    plan = plan_cells(store, POOL, [COLUMN])
    tables = [rows for _, rows in load_cells(store, POOL, COLUMN)]
    failed = sum(len(rows) - rows["error"].null_count for rows in tables)
    kept = sum(row["error"] is None and row["key"] not in rule.keys for rows in tables for row in rows.to_pylist())
    for _ in range(2):
        found = distributed.select(store, plan, rule, str(tmp_path), lambda _: None)
        assert found.rows == dict.fromkeys(range(70), 10)
        assert found.seen == PoolCounts(images=700, failed=failed, excluded=700 - failed - kept)


def test_a_selection_is_read_back_as_it_was_written_and_a_damaged_one_is_refused(store, tmp_path) -> None:
    best = distributed.select(store, plan_cells(store, POOL, [COLUMN]), RULE, f"{tmp_path}/parts", lambda _: None).best
    chosen, place = by_rank(best), f"{tmp_path}/out"
    assert read_selection(place) is None
    written = Selection(pool=POOL, chosen=chosen, facts=fake_pools.facts("abcdef01"))
    write_selection(place, written)
    found = read_selection(place)
    assert found and found.chosen.equals(chosen) and found.pool == POOL and found.identity == "abcdef01"
    assert json.dumps(found.facts.to_json(), sort_keys=True) == json.dumps(written.facts.to_json(), sort_keys=True)
    for name in (TABLE_FILE, POOL_FILE):
        content = storage.read(f"{place}/{name}")
        storage.replace(f"{place}/{name}", content[:50] + b"x" + content[51:])
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            read_selection(place)
        storage.replace(f"{place}/{name}", content)
    storage.replace(f"{place}/{FACTS_FILE}", b"{}")
    with pytest.raises(
        ValueError, match=r"selection.json is damaged or not a selection of this release: KeyError\('sha256'\)"
    ):
        read_selection(place)


def test_nothing_chosen_is_a_selection_too(tmp_path) -> None:
    empty = TopK(CLASSES, 3).best()
    assert isinstance(empty, Candidates)
    write_selection(str(tmp_path), Selection(pool=POOL, chosen=by_rank(empty), facts=fake_pools.facts("0")))
    found = read_selection(str(tmp_path))
    assert found and len(found.chosen) == 0


def test_the_digests_of_a_validation_set_keep_its_images_out(write_tar, jpegs, tmp_path) -> None:
    from pipelines.data import read
    from pipelines.data.dataset import find_dataset

    write_tar(tmp_path / "val" / "0.tar", [(f"{i}.jpg", image) for i, image in enumerate(jpegs)])
    seen = []
    found = distributed.digests(find_dataset([f"{tmp_path}/val"]).shards, seen.append)
    assert found == {read.digest_of(image) for image in jpegs}
    assert seen == [1]
    write_tar(tmp_path / "bad" / "0.tar", [("0.jpg", jpegs[0]), ("0.cls", b"cat")])
    with pytest.raises(ValueError, match=r"bad/0.tar: row 0, '0', has no image to compare: bad label"):
        distributed.digests(find_dataset([f"{tmp_path}/bad"]).shards, seen.append)
