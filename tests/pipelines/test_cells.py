"""A cell: path by identity, bytes by content, rows all there or nothing."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from pipelines import cells, storage
from pipelines.cells import Column, Gather
from pipelines.records import ABSENT_MODEL, FAILED_MODEL, FAILED_SHARD, SCORES, Dataset, Shard
from zoo import wanted

CARD = zoo.card("efficientnet_lite0")
COLUMN = Column(card=CARD, file=wanted.published(CARD))
SHARDS = tuple(Shard(name=f"{i:05d}", uri=f"/d/{i:05d}.tar", size=100 + i, etag=f"e{i}") for i in range(3))
DATASET = Dataset(name="d", source="/d", shards=SHARDS)


def score_rows(model: int, shard: int, rows: int, errors: tuple[int, ...] = ()) -> pa.Table:
    """Scores of a whole shard, as a scorer gives them."""
    top = COLUMN.top
    fine = [i not in errors for i in range(rows)]
    columns = {
        "model": [model] * rows,
        "shard": [shard] * rows,
        "last": [i == rows - 1 for i in range(rows)],
        "index": list(range(rows)),
        "key": [f"k{i}" for i in range(rows)],
        "label": [i % 1000 for i in range(rows)],
        "classes": [list(range(i, i + top)) if ok else None for i, ok in enumerate(fine)],
        "probs": [[1.0 / (j + 2) for j in range(top)] if ok else None for ok in fine],
        "label_prob": [0.5 if ok else None for ok in fine],
        "sq_prob": [0.25 if ok else None for ok in fine],
        "error": [None if ok else "empty file" for ok in fine],
    }
    return pa.table(columns, schema=SCORES)


def cell_rows(rows: int, errors: tuple[int, ...] = ()) -> pa.Table:
    return score_rows(0, 0, rows, errors).drop_columns(["model", "shard", "last"])


def test_a_cell_is_read_back_as_it_was_published_null_lists_included(store: str) -> None:
    cells.publish(store, DATASET, COLUMN, SHARDS[0], cell_rows(7, errors=(0, 3, 6)))
    shard, rows = next(cells.load(store, DATASET, COLUMN))
    assert shard == SHARDS[0]
    assert rows.to_pylist() == cell_rows(7, errors=(0, 3, 6)).to_pylist()
    assert rows["classes"].type == pa.list_(pa.int16(), 10)


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


def test_a_failed_shard_leaves_no_cell_and_its_reason() -> None:
    gather = Gather()
    failed = pa.Table.from_pylist([{"model": 0, "shard": 2, "index": FAILED_SHARD, "error": "cut"}], schema=SCORES)
    assert list(gather.add(score_rows(0, 2, 5).slice(0, 3))) == []
    assert list(gather.add(failed)) == []
    assert gather.failures == {2: "cut"}


@pytest.mark.parametrize(("kind", "where"), [(FAILED_MODEL, "unusable"), (ABSENT_MODEL, "absent")])
def test_a_model_that_is_not_there_leaves_its_reason_and_the_other_models_their_cells(kind, where) -> None:
    gather = Gather()
    failed = pa.Table.from_pylist([{"model": 0, "shard": 2, "index": kind, "error": "no fit"}], schema=SCORES)
    assert list(gather.add(failed)) == []
    assert [cell[:2] for cell in gather.add(score_rows(1, 2, 5))] == [(1, 2)]
    assert gather == Gather(**{where: {0: "no fit"}})


def test_rows_that_arrive_after_their_shard_failed_are_let_go() -> None:
    gather = Gather({0: "cut"})
    assert list(gather.add(score_rows(0, 0, 5))) == []
    assert gather == Gather({0: "cut"})


def test_one_block_may_hold_rows_of_many_cells() -> None:
    gather = Gather()
    together = pa.concat_tables([score_rows(0, 0, 3), score_rows(1, 0, 3), score_rows(0, 1, 1)])
    assert [(model, shard, rows.num_rows) for model, shard, rows in gather.add(together)] == [
        (0, 0, 3),
        (1, 0, 3),
        (0, 1, 1),
    ]
