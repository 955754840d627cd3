"""Covers jobs.steps.preflight: labels are compared with the classes of each model before Ray starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.steps import preflight
from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.data.dataset import find_dataset
from tests.support import cell_rows

FEW = replace(cell_rows.COLUMN, card=replace(cell_rows.CARD, name="few", num_classes=10))


@pytest.fixture
def data(tmp_path, write_tar, jpegs) -> Path:
    members = []
    for i, label in enumerate((3, 20, 41)):
        members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", b"%d" % label)]
    write_tar(tmp_path / "val" / "0.tar", members)
    return tmp_path / "val"


def unfit(data: Path, *columns: Column) -> dict[str, str]:
    return preflight.unfit(plan_cells(str(data / "out"), find_dataset([str(data)]), columns))


def test_a_model_of_fewer_classes_loses_its_own_cells_alone(data) -> None:
    told = unfit(data, cell_rows.COLUMN, FEW)
    assert list(told) == [FEW.name]
    assert told[FEW.name].endswith("labels from 3 to 41, expected 0 to 9")
    with pytest.raises(ValueError, match="expected 0 to 9"):
        unfit(data, FEW)


def test_labels_of_which_none_counts_are_seen_before_anything_is_computed(data) -> None:
    assert unfit(data, replace(cell_rows.COLUMN, subset=(3, 7))) == {}
    with pytest.raises(
        ValueError, match=r"no label is one of the 2 classes of the evaluation set, .* first label is 3"
    ):
        unfit(data, replace(cell_rows.COLUMN, subset=(4, 7)))
