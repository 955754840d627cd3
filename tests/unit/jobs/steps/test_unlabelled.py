"""Covers what is said of data without labels: what it has instead, and the option that takes labels from it."""

from pathlib import Path

import pytest

from jobs.steps.probes import probe
from jobs.steps.unlabelled import seen
from pipelines.data.dataset import find_dataset
from tests.support.shard_files import WriteTar, parquet_of


@pytest.mark.parametrize(
    ("members", "clause"),
    [
        (
            ["a.jpg", "a.json", "a.txt"],
            "members beside the pictures: json, txt, of which --label-member json takes",
        ),
        (["a.jpg", "a.txt"], "members beside the pictures: txt, of which --label-member txt takes labels"),
        (["a.jpg", "a.seg.png", "a.npy"], "members beside the pictures: npy, seg.png; docs/data.md"),
        (["n01440764/a.jpg"], "folders: n01440764, which --label-from path takes for classes"),
        (["val/7/a.jpg"], "folders: 7, which --label-from path takes for classes"),
        (["goldfish/a.jpg"], "folders: goldfish; docs/data.md"),
        (["a.jpg"], "docs/data.md says how shards give labels"),
    ],
)
def test_what_a_tar_has_beside_pictures_is_named_with_the_option_that_takes_it(
    tmp_path: Path, write_tar: WriteTar, members: list[str], clause: str
) -> None:
    write_tar(tmp_path / "val" / "a.tar", [(name, b"{}") for name in members])
    assert seen(probe(find_dataset([f"{tmp_path}/val"]))).startswith(clause)


def test_the_columns_of_a_parquet_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_of(key=["a"], image=[b"x"], kind=[7]))
    said = seen(probe(find_dataset([str(tmp_path)])))
    assert said.startswith("columns: key, image, kind, of which --label-column names the labels; ")
