"""Covers jobs.steps.preflight on Parquet that names its classes: numbers among these are labels of few models."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.steps import label_checks, preflight
from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.data.dataset import find_dataset
from tests.support import cell_rows
from zoo import imagenet

THOUSAND = cell_rows.COLUMN
THREE = replace(THOUSAND, card=replace(THOUSAND.card, name="three", num_classes=3))
ANIMALS = ["cat", "dog", "tench"]


def put(folder: Path, names: list[str], labels: list[int]) -> None:
    """A file as Hugging Face's `datasets` writes it, with a ClassLabel of these names."""
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    table = pa.table({"image": [b"%d" % number for number in range(len(labels))], "label": labels})
    stored = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    folder.mkdir()
    pq.write_table(stored, folder / "a.parquet")


def unfit(folder: Path, *columns: Column) -> dict[str, str]:
    plan = plan_cells(str(folder / "out"), find_dataset([str(folder)]), columns)
    return label_checks.unfit(plan, preflight.probed(plan, 0.01))


def test_labels_that_number_other_classes_than_the_models_are_refused_before_anything_starts(tmp_path) -> None:
    put(tmp_path / "val", ANIMALS, [0, 1, 2])
    told = unfit(tmp_path / "val", THOUSAND, THREE)
    assert list(told) == [THOUSAND.name]
    assert told[THOUSAND.name].endswith(
        "a.parquet: its labels number 3 classes (cat, dog, tench, …), the model has 1000; "
        "write the model's own numbers, or ImageNet's synsets, as labels"
    )
    with pytest.raises(ValueError, match="its labels number 3 classes"):
        unfit(tmp_path / "val", THOUSAND)


FIT = {"synsets": imagenet.synsets()[:3], "numbers": ("0", "1", "2"), "all": imagenet.class_names()}


@pytest.mark.parametrize("names", FIT)
def test_numbers_synsets_and_as_many_names_as_classes_fit(tmp_path, names: str) -> None:
    put(tmp_path / "val", [*FIT[names]], [0, 1, 2])
    assert unfit(tmp_path / "val", THOUSAND) == {}


def test_a_pool_whose_labels_are_all_unknown_may_name_any_classes(tmp_path) -> None:
    put(tmp_path / "val", ANIMALS, [-1, -1, -1])
    assert unfit(tmp_path / "val", THOUSAND) == {}
