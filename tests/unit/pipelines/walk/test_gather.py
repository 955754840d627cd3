"""Covers pipelines.walk.gather and failures: rows that arrive in any order leave as whole cells, or not at all."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records import SCORES, cell_schema
from pipelines.walk.failures import EMPTY, Failure, FailureKind
from pipelines.walk.gather import Gather
from tests.support.cell_rows import cell_rows, score_rows


def failure(kind: FailureKind, reason: str, *, shard: int = 2) -> pa.Table:
    return Failure(kind=kind, slot=0, shard=shard, reason=reason).as_scores()


def known(gather: Gather) -> dict[str, dict[int, str]]:
    """What is known of shards and models that give nothing."""
    every = {
        name: getattr(gather, name) for name in ("failed_shards", "absent_shards", "failed_models", "absent_models")
    }
    return {name: reasons for name, reasons in every.items() if reasons}


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
        for model, shard, rows, _ in gather.add(piece):
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


@pytest.mark.parametrize(("kind", "where"), [("failed_shard", "failed_shards"), ("absent_shard", "absent_shards")])
def test_a_shard_that_failed_leaves_no_cell_and_its_reason_told_from_one_that_is_away(kind, where) -> None:
    gather = Gather()
    failed = failure(kind, "cut")
    assert list(gather.add(score_rows(0, 2, 5).slice(0, 3))) == []
    assert list(gather.add(failed)) == []
    assert known(gather) == {where: {2: "cut"}}
    assert gather.begun == 0


def test_cells_count_as_begun_from_their_first_row_until_they_leave_or_fail() -> None:
    gather, whole = Gather(), score_rows(0, 2, 5)
    list(gather.add(pa.concat_tables([whole.slice(0, 3), score_rows(1, 2, 5).slice(3), score_rows(0, 1, 9).slice(4)])))
    assert gather.begun == 3
    assert [cell[:2] for cell in gather.add(whole.slice(3))] == [(0, 2)]
    assert gather.begun == 2
    list(gather.add(failure("absent_shard", "x", shard=1)))
    assert gather.begun == 1


@pytest.mark.parametrize(("kind", "where"), [("failed_model", "failed_models"), ("absent_model", "absent_models")])
def test_a_model_that_is_not_there_leaves_its_reason_and_the_other_models_their_cells(kind, where) -> None:
    gather = Gather()
    failed = failure(kind, "no fit")
    assert list(gather.add(failed)) == []
    assert [cell[:2] for cell in gather.add(score_rows(1, 2, 5))] == [(1, 2)]
    assert known(gather) == {where: {0: "no fit"}}


@pytest.mark.parametrize("kind", ["failed_model", "absent_model"])
@pytest.mark.parametrize("first", ["scores", "failure"])
def test_a_cell_that_one_scorer_could_not_score_is_not_held_to_the_end(kind, first) -> None:
    """Another scorer may have had the weights, and scored the rest of the shard."""
    gather, scored = Gather(), score_rows(0, 2, 5).slice(0, 3)
    failed = failure(kind, "no fit")
    for table in (scored, failed) if first == "scores" else (failed, scored):
        assert list(gather.add(table)) == []
    assert gather.begun == 0


@pytest.mark.parametrize("where", ["failed_shards", "absent_shards"])
def test_rows_that_arrive_after_their_shard_failed_are_let_go(where) -> None:
    gather = Gather(**{where: {0: "cut"}})
    assert list(gather.add(score_rows(0, 0, 5))) == []
    assert known(gather) == {where: {0: "cut"}}
    assert gather.begun == 0


def test_one_block_may_hold_rows_of_many_cells() -> None:
    gather = Gather()
    together = pa.concat_tables([score_rows(0, 0, 3), score_rows(1, 0, 3), score_rows(0, 1, 1)])
    assert [(model, shard, rows.num_rows) for model, shard, rows, _ in gather.add(together)] == [
        (0, 0, 3),
        (1, 0, 3),
        (0, 1, 1),
    ]


def test_a_shard_without_samples_is_a_cell_without_rows() -> None:
    row = {"kind": EMPTY, "slot": 1, "shard": 2, "last": False, "passed": '{"json": 3}'}
    (cell,) = Gather().add(pa.Table.from_pylist([row], schema=SCORES))
    assert (cell.slot, cell.shard, cell.rows.num_rows, cell.passed) == (1, 2, 0, '{"json": 3}')
    assert cell.rows.column_names == cell_schema(1).names


def test_what_was_passed_over_comes_with_the_last_row() -> None:
    gather, scores = Gather(), score_rows(0, 0, 3)
    said = pa.array([None, None, '{"txt": 1}'], pa.string())
    told = scores.set_column(scores.column_names.index("passed"), "passed", said)
    (cell,) = [cell for part in (told.slice(2), told.slice(0, 2)) for cell in gather.add(part)]
    assert cell.passed == '{"txt": 1}'
