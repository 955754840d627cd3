"""A cell: path by identity, bytes by content, rows all there or nothing."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import cells, storage
from pipelines.cells import Gather
from pipelines.records import ABSENT_MODEL, ABSENT_SHARD, FAILED_MODEL, FAILED_SHARD, SCORES, Dataset, Shard
from tests.pipelines.cell_rows import CARD, COLUMN, cell_rows, score_rows

SHARDS = tuple(Shard(name=f"{i:05d}", uri=f"/d/{i:05d}.tar", size=100 + i, etag=f"e{i}") for i in range(3))
DATASET = Dataset(name="d", source="/d", shards=SHARDS)


def test_a_cell_is_read_back_as_it_was_published_null_lists_included(store: str) -> None:
    cells.publish(store, DATASET, COLUMN, SHARDS[0], cell_rows(7, errors=(0, 3, 6)))
    shard, rows = next(cells.load(store, DATASET, COLUMN))
    assert shard == SHARDS[0]
    assert rows.to_pylist() == cell_rows(7, errors=(0, 3, 6)).to_pylist()
    assert rows["classes"].type == pa.list_(pa.int16(), 10)


def test_a_cell_says_what_it_is_of(tmp_path) -> None:
    cells.publish(str(tmp_path), DATASET, COLUMN, replace(SHARDS[2], limit=3), cell_rows(3))
    about = cells.about(cells.uri(str(tmp_path), DATASET, COLUMN, replace(SHARDS[2], limit=3)))
    assert about["shard"] == {"name": "00002", "size": 102, "etag": "e2", "limit": 3}
    assert (about["model"], about["rows"], about["schema"]) == (CARD.name, 3, cells.SCHEMA_VERSION)
    assert about["weights"] == COLUMN.weights


def test_a_cell_says_nothing_of_where_its_shard_lies() -> None:
    """The same shard under two spellings of its path has one cell, and two jobs that fill it must agree."""
    moved = replace(SHARDS[0], uri="s3://elsewhere/00000.tar")
    assert cells.encode(COLUMN, SHARDS[0], cell_rows(3)) == cells.encode(COLUMN, moved, cell_rows(3))


@pytest.mark.parametrize("key", ["sha256:" + "0" * 64, "menagerie.seal", "menagerie.seal@" + "0" * 64, "@"])
def test_a_key_may_look_like_a_seal(key, tmp_path) -> None:
    rows = cell_rows(2).set_column(1, "key", pa.array([key, key[::-1]]))
    (tmp_path / "cell.parquet").write_bytes(cells.encode(COLUMN, SHARDS[0], rows))
    assert cells.read(str(tmp_path / "cell.parquet"), COLUMN.top)["key"].to_pylist() == [key, key[::-1]]


def test_the_same_rows_are_the_same_bytes_however_they_are_chunked() -> None:
    whole = cell_rows(9, errors=(4,))
    pieces = pa.concat_tables([whole.slice(0, 2), whole.slice(2, 3), whole.slice(5)])
    assert cells.encode(COLUMN, SHARDS[0], whole) == cells.encode(COLUMN, SHARDS[0], pieces)


@pytest.mark.parametrize(
    "changed",
    [
        {"precision": "bf16"},
        {"batch_size": 16},
        {"file": replace(COLUMN.file, sha256="0" * 64)},
        {"file": replace(COLUMN.file, label_order="devkit")},
        {"card": replace(CARD, preprocessing=replace(CARD.preprocessing, crop_pct=0.9))},
        {"card": replace(CARD, preprocessing=replace(CARD.preprocessing, mean=(0.5, 0.5, 0.5)))},
        {"card": replace(CARD, num_classes=7)},
    ],
)
def test_other_settings_are_other_cells(changed) -> None:
    other = replace(COLUMN, **changed)
    assert cells.uri("s", DATASET, other, SHARDS[0]) != cells.uri("s", DATASET, COLUMN, SHARDS[0])


def test_another_version_of_the_columns_is_another_cell(monkeypatch) -> None:
    here = cells.uri("s", DATASET, COLUMN, SHARDS[0])
    monkeypatch.setattr(cells, "SCHEMA_VERSION", cells.SCHEMA_VERSION + 1)
    assert cells.uri("s", DATASET, COLUMN, SHARDS[0]) != here


@pytest.mark.parametrize("changed", [{"size": 1}, {"etag": "x"}, {"name": "y"}, {"limit": 3}])
def test_a_changed_shard_is_another_cell(changed) -> None:
    other = replace(SHARDS[0], **changed)
    assert cells.uri("s", DATASET, COLUMN, other) != cells.uri("s", DATASET, COLUMN, SHARDS[0])


def test_a_path_has_the_form_that_the_design_promises() -> None:
    path = cells.uri("s3://b/out", DATASET, COLUMN, SHARDS[1])
    model, shard = path.removeprefix("s3://b/out/cells/d/").split("/")
    assert model.startswith("efficientnet_lite0-57934424-")
    assert shard == f"00001-{SHARDS[1].digest}.parquet"


def test_a_plan_subtracts_what_is_committed(store: str) -> None:
    other = replace(COLUMN, precision="bf16")
    cells.publish(store, DATASET, COLUMN, SHARDS[1], cell_rows(2))
    plan = cells.plan(store, DATASET, [COLUMN, other])
    assert plan.missing == ((0, 2), (0, 1, 2))
    assert (plan.needed, plan.pending) == (6, 5)


def test_a_cell_with_one_flipped_bit_is_refused_by_name(tmp_path) -> None:
    content = cells.encode(COLUMN, SHARDS[0], cell_rows(40))
    path = tmp_path / "cell.parquet"
    for position in np.random.default_rng(0).integers(0, len(content) * 8, 200):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cell\.parquet is damaged"):
            cells.read(str(path), COLUMN.top)


def test_a_cell_that_is_cut_is_refused_by_name(store: str) -> None:
    where = f"{store}/cell.parquet"
    storage.replace(where, cells.encode(COLUMN, SHARDS[0], cell_rows(40))[:-100])
    with pytest.raises(ValueError, match=r"cell\.parquet is damaged"):
        cells.read(where, COLUMN.top)


OF_FIVE = replace(SHARDS[0], rows=5)
BACKWARDS = cell_rows(5).take([4, 3, 2, 1, 0])
WRONG = {
    "of another shard": (cells.encode(COLUMN, SHARDS[1], cell_rows(5)), "shard .*00001.*, expected .*00000"),
    "of other settings": (cells.encode(replace(COLUMN, batch_size=1), OF_FIVE, cell_rows(5)), "plan .*, expected "),
    "too short": (cells.encode(COLUMN, OF_FIVE, cell_rows(4)), "rows 4, expected 5"),
    "out of order": (cells.encode(COLUMN, OF_FIVE, BACKWARDS), "its rows are not in order"),
    "with a gap": (cells.encode(COLUMN, OF_FIVE, cell_rows(6).take([0, 1, 2, 3, 5])), "its rows are not in order"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_cell_that_is_whole_but_wrong_is_refused_by_name(tmp_path, what) -> None:
    content, reason = WRONG[what]
    where = cells.uri(str(tmp_path), DATASET, COLUMN, OF_FIVE)
    storage.put(where, content)
    with pytest.raises(ValueError, match=rf"{where} is not what it should be: .*{reason}"):
        cells.verify(str(tmp_path), DATASET, COLUMN, OF_FIVE)


@pytest.mark.parametrize(
    "shard", [OF_FIVE, replace(OF_FIVE, rows=9, limit=5), SHARDS[0]], ids=["manifest", "limit", "itself"]
)
def test_a_cell_is_as_long_as_its_shard_or_the_limit_or_as_it_says_itself(tmp_path, shard) -> None:
    cells.publish(str(tmp_path), DATASET, COLUMN, shard, cell_rows(5, errors=(1,)))
    assert cells.verify(str(tmp_path), DATASET, COLUMN, shard).to_pylist() == cell_rows(5, errors=(1,)).to_pylist()


@given(st.data())
def test_cells_leave_whole_and_in_order_however_their_rows_arrive(data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    pieces = []
    for shard, rows in enumerate(sizes):
        for model in (0, 1):
            table = score_rows(model, shard, rows)
            step = data.draw(st.integers(1, 12))
            pieces += [table.slice(start, step) for start in range(0, rows, step)]
    gather = Gather()
    done = {}
    for piece in data.draw(st.permutations(pieces)):
        for model, shard, rows in gather.add(piece):
            assert (model, shard) not in done
            done[model, shard] = rows
    assert {cell: rows.num_rows for cell, rows in done.items()} == {
        (model, shard): rows for shard, rows in enumerate(sizes) for model in (0, 1)
    }
    for rows in done.values():
        assert rows.to_pylist() == cell_rows(rows.num_rows).to_pylist()


@given(st.integers(2, 12), st.data())
def test_a_cell_with_a_row_missing_never_leaves(rows, data) -> None:
    lost = data.draw(st.integers(0, rows - 1))
    gather = Gather()
    table = score_rows(0, 0, rows)
    parts = [table.slice(i, 1) for i in range(rows) if i != lost]
    assert [cell for part in data.draw(st.permutations(parts)) for cell in gather.add(part)] == []


@pytest.mark.parametrize(("kind", "where"), [(FAILED_SHARD, "failures"), (ABSENT_SHARD, "away")])
def test_a_shard_that_failed_leaves_no_cell_and_its_reason_told_from_one_that_is_away(kind, where) -> None:
    gather = Gather()
    failed = pa.Table.from_pylist([{"model": 0, "shard": 2, "index": kind, "error": "cut"}], schema=SCORES)
    assert list(gather.add(score_rows(0, 2, 5).slice(0, 3))) == []
    assert list(gather.add(failed)) == []
    assert gather == Gather(**{where: {2: "cut"}})


def test_cells_count_as_begun_from_their_first_row_until_they_leave_or_fail() -> None:
    gather, whole = Gather(), score_rows(0, 2, 5)
    list(gather.add(pa.concat_tables([whole.slice(0, 3), score_rows(1, 2, 5).slice(3), score_rows(0, 1, 9).slice(4)])))
    assert gather.begun == 3
    assert [cell[:2] for cell in gather.add(whole.slice(3))] == [(0, 2)]
    assert gather.begun == 2
    list(gather.add(pa.Table.from_pylist([{"model": 0, "shard": 1, "index": ABSENT_SHARD, "error": "x"}], SCORES)))
    assert gather.begun == 1


@pytest.mark.parametrize(("kind", "where"), [(FAILED_MODEL, "unusable"), (ABSENT_MODEL, "absent")])
def test_a_model_that_is_not_there_leaves_its_reason_and_the_other_models_their_cells(kind, where) -> None:
    gather = Gather()
    failed = pa.Table.from_pylist([{"model": 0, "shard": 2, "index": kind, "error": "no fit"}], schema=SCORES)
    assert list(gather.add(failed)) == []
    assert [cell[:2] for cell in gather.add(score_rows(1, 2, 5))] == [(1, 2)]
    assert gather == Gather(**{where: {0: "no fit"}})


@pytest.mark.parametrize("where", ["failures", "away"])
def test_rows_that_arrive_after_their_shard_failed_are_let_go(where) -> None:
    gather = Gather(**{where: {0: "cut"}})
    assert list(gather.add(score_rows(0, 0, 5))) == []
    assert gather == Gather(**{where: {0: "cut"}})


def test_one_block_may_hold_rows_of_many_cells() -> None:
    gather = Gather()
    together = pa.concat_tables([score_rows(0, 0, 3), score_rows(1, 0, 3), score_rows(0, 1, 1)])
    assert [(model, shard, rows.num_rows) for model, shard, rows in gather.add(together)] == [
        (0, 0, 3),
        (1, 0, 3),
        (0, 1, 1),
    ]
