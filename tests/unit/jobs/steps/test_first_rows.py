"""Covers jobs.steps.first_rows: the first bad image is shown whole, labels are judged once a thousand have scores."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.steps.first_rows import LOOKED, FirstRows
from pipelines.cells.cell import publish_cell
from pipelines.cells.plan import Plan, plan_cells
from pipelines.data import evaluation_sets
from pipelines.records import Dataset, Shard
from tests.support import cell_rows

SHARDS = tuple(Shard(name=f"{i:05d}", uri=f"val/{i:05d}.tar", size=1, etag="x") for i in range(3))
DATASET = Dataset(name="val", source="val", shards=SHARDS)
VAL = evaluation_sets.named("imagenet-val")


def plan(store: str) -> Plan:
    return plan_cells(store, DATASET, [cell_rows.COLUMN])


def scores(rows: int, shift: int = 0, **other: tuple[int, ...]) -> pa.Table:
    """Scores whose top-1 class is the label less `shift`."""
    made = cell_rows.score_rows(0, 1, rows, **other)
    at = made.schema.get_field_index("label")
    return made.set_column(at, "label", pa.array(np.arange(rows) % 900 + shift, pa.int32()))


def test_labels_are_judged_once_a_thousand_have_scores_and_stop_a_set_by_name(tmp_path) -> None:
    rows = FirstRows(plan(str(tmp_path)), VAL, True)
    wrong = scores(900, shift=1)
    rows.look([0], wrong)
    with pytest.raises(ValueError, match=r"^--dataset imagenet-val: .*1,000 \(100.0 %\) would with labels less one"):
        rows.look([0], wrong)


def test_without_a_set_it_is_one_warning_and_the_run_goes_on(tmp_path, capsys) -> None:
    two = Plan(DATASET, (cell_rows.COLUMN, cell_rows.COLUMN), ((0, 1, 2), (0, 1, 2)))
    rows = FirstRows(two, None, True)
    for _ in range(3):
        rows.look([0], scores(900, shift=1))
        rows.look([1], scores(900, shift=1))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: labels against the top-1 of efficientnet_lite0: 0 of 1,000 (0.0 %) agree")
    assert line.endswith("expected labels from 0 to 999 in the order of the sorted synset ids")


def test_right_labels_a_pool_and_data_without_labels_are_not_remarked_on(tmp_path, capsys) -> None:
    unlabelled = scores(900).set_column(6, "label", pa.nulls(900, pa.int32()))
    for table, labelled in ((scores(900), True), (scores(900, shift=1), False), (unlabelled, True)):
        rows = FirstRows(plan(str(tmp_path)), VAL, labelled)
        for _ in range(8):
            rows.look([0], table)
    assert capsys.readouterr().err == ""


def test_the_first_bad_image_is_shown_whole_once(tmp_path, capsys) -> None:
    rows = FirstRows(plan(str(tmp_path)), None, False)
    rows.look([0], scores(5))
    rows.look([0], scores(9, errors=(3, 4)))
    rows.look([0], scores(9, errors=(1,)))
    assert capsys.readouterr().err == "first bad row  val/00001.tar, row 3, key 'k3', at byte 3072: empty file\n"


def test_cells_of_an_earlier_run_are_judged_before_anything_is_computed(tmp_path) -> None:
    store = str(tmp_path)
    made = scores(LOOKED, shift=1).drop_columns(["kind", "slot", "shard", "last", "seconds", "passed"])
    FirstRows(plan(store), VAL, True).look_at_cells(store)
    publish_cell(store, DATASET, cell_rows.COLUMN, SHARDS[0], made)
    with pytest.raises(ValueError, match="labels less one"):
        FirstRows(plan(store), VAL, True).look_at_cells(store)
    FirstRows(plan(store), VAL, False).look_at_cells(store)
    (cell,) = tmp_path.rglob("*.parquet")
    cell.write_bytes(cell.read_bytes()[:-1])
    FirstRows(plan(store), VAL, True).look_at_cells(store)
