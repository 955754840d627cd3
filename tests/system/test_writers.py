"""What widely used writers write is read rightly: each runs here, of a pinned version, on the same eight pictures.

The writers are installed into a folder of their own, before the project's environment on the path.
"""

import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.data.tar_members import PassedOver
from pipelines.records import Reading, Sample
from tests.support import evaluations

SCRIPTS = Path(__file__).parent / "writers"
_spec = importlib.util.spec_from_file_location("writers_pictures", SCRIPTS / "pictures.py")
pictures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pictures)
EIGHT = [(one.label, one.data) for one in pictures.eight()]
POOL = [(None, data) for _, data in EIGHT]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
Write = Callable[[str], Path]


@pytest.fixture(scope="module")
def installed() -> Iterator[str]:
    """The folder of the writers' packages: half a gigabyte, and removed afterwards."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["--target", folder, "-r", str(SCRIPTS / "requirements.txt")]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"the writers cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        yield folder


@pytest.fixture(scope="module")
def write(installed: str, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Runs the script of one writer, once, and gives the folder into which it wrote a folder for each variant."""
    folder = tmp_path_factory.mktemp("written")
    env = {**os.environ, "PYTHONPATH": installed, "PYTHONWARNINGS": "ignore", "RAY_ADDRESS": ""}

    def run(name: str) -> Path:
        if not (folder / name).exists():
            (folder / name).mkdir()
            script = [sys.executable, str(SCRIPTS / f"{name}.py"), str(folder / name)]
            done = subprocess.run(script, env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        return folder / name

    return run


def read_folder(folder: Path, **reading: str) -> tuple[list[Sample], dict[str, int]]:
    """The samples of all shards by key, with what was passed over; no key is there twice."""
    passed = PassedOver(Counter())
    dataset = find_dataset([str(folder)], reading=Reading(**reading))
    samples = [sample for shard in dataset.shards for sample in read.samples(shard, passed)]
    assert len({sample.key for sample in samples}) == len(samples)
    return sorted(samples, key=lambda sample: sample.key), dict(passed.kinds)


def content(samples: list[Sample]) -> list[tuple[int | None, bytes | None]]:
    assert not [sample.error for sample in samples if sample.error]
    return [(sample.label, sample.image) for sample in samples]


def refusal(folder: Path) -> str:
    with pytest.raises((ValueError, read.ShardError), match=r"\w") as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WEBDATASET = {
    "plain": ({}, EIGHT, {}),
    "upper": ({}, EIGHT, {}),
    "gz": ({}, EIGHT, {}),
    "dotted": ({}, EIGHT, {}),
    "synset": ({}, EIGHT, {}),
    "numpy_cls": ({}, EIGHT, {}),
    "mask": ({}, EIGHT, {"seg.png": 8}),
    "dotted_mask": ({}, EIGHT, {"seg.png": 8}),
    "depth": ({}, EIGHT, {"depth.png": 8, "flow.png": 8}),
    "mask_pool": ({}, POOL, {"seg.png": 8}),
    "two_names": ({}, EIGHT, {}),
    "json": ({"label_member": "json"}, EIGHT, {}),
    "json_nested": ({"label_member": "json:target"}, EIGHT, {}),
    "txt": ({"label_member": "txt"}, EIGHT, {}),
    "index": ({"label_member": "index"}, EIGHT, {}),
}


@pytest.mark.parametrize("variant", WEBDATASET)
def test_shards_of_webdataset_are_its_samples(write: Write, variant: str) -> None:
    reading, expected, kinds = WEBDATASET[variant]
    samples, passed = read_folder(write("webdataset_shards") / variant, **reading)
    assert (content(samples), passed) == (expected, kinds)


@pytest.mark.parametrize("member", ["json", "txt", "index"])
def test_labels_that_no_option_names_are_counted(write: Write, member: str) -> None:
    samples, passed = read_folder(write("webdataset_shards") / member)
    assert (content(samples), passed) == (POOL, {member: 8})


def test_pictures_of_any_suffix_are_samples_of_a_pool(write: Write) -> None:
    samples, _ = read_folder(write("webdataset_shards") / "bmp_pool")
    assert [sample.image for sample in samples] == [
        pictures.bitmap(number) if number % 2 else data for number, (_, data) in enumerate(EIGHT)
    ]


@pytest.mark.parametrize("variant", ["integers", "numbered", "names", "synsets", "digits"])
def test_parquet_of_hugging_face_has_the_labels_that_its_class_names_say(write: Write, variant: str) -> None:
    samples, _ = read_folder(write("hugging_face_parquet") / variant)
    assert content(samples) == EIGHT
    assert [sample.key for sample in samples] == [one.key for one in pictures.eight()]


def test_other_parquet_of_hugging_face_is_unlabelled_or_refused_or_has_rows_with_reasons(write: Write) -> None:
    folder = write("hugging_face_parquet")
    assert content(read_folder(folder / "test")[0]) == POOL
    assert "numbers ImageNet's classes in another order" in refusal(folder / "names_sorted")
    samples, _ = read_folder(folder / "null")
    assert content(samples[:-1]) == EIGHT[:-1]
    assert samples[-1].error == "no image: the image column holds null"


def by_content(samples: list[Sample]) -> list[tuple[int | None, bytes | None]]:
    """img2dataset numbers pictures in the order in which they arrived."""
    return sorted(content(samples), key=repr)


def test_shards_of_img2dataset_are_read_and_its_tables_beside_them_are_not(write: Write, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        samples, passed = read_folder(write("img2dataset_shards") / "webdataset", label_member="json")
    assert by_content(samples) == sorted(EIGHT, key=repr)
    assert passed == {"txt": 8}
    assert "2 Parquet files without pictures lie beside tars of their name" in caplog.text


def test_parquet_of_img2dataset_has_a_row_with_a_reason_for_what_was_not_downloaded(write: Write) -> None:
    samples, _ = read_folder(write("img2dataset_shards") / "parquet")
    assert by_content([sample for sample in samples if not sample.error]) == sorted(EIGHT, key=repr)
    assert [s.error for s in samples if s.error] == ["no image: the image column holds null"] * 8


def test_files_of_img2dataset_are_refused_with_the_job_that_packs_them(write: Write) -> None:
    assert "are packed by jobs.pack_shards --images" in refusal(write("img2dataset_shards") / "files")


TABLES = ["polars", "polars_list", "polars_categories", "duckdb", "duckdb_label", "duckdb_struct"]


@pytest.mark.parametrize("variant", TABLES)
def test_parquet_of_polars_and_duckdb_is_read_by_its_types_and_folders(write: Write, variant: str) -> None:
    samples, _ = read_folder(write("tables") / variant)
    assert content(samples) == EIGHT


def test_what_ray_data_writes_is_read_unless_it_is_decoded(write: Write) -> None:
    folder = write("ray_data")
    assert content(read_folder(folder / "binary")[0]) == POOL
    samples, _ = read_folder(folder / "webdataset")
    assert [sample.label for sample in samples] == [label for label, _ in EIGHT]
    assert all(pictures.Image.open(io.BytesIO(sample.image)).size == (60, 50) for sample in samples)
    assert "decoded pictures are not read" in refusal(folder / "tensors")


@pytest.mark.parametrize("variant", ["plain", "zstd"])
def test_shards_of_mosaics_streaming_are_refused_by_name(write: Write, variant: str) -> None:
    said = refusal(write("mosaic_shards") / variant)
    assert "there are MosaicML streaming shards (MDS): shard.00000.mds" in said
    assert said.endswith("write it as WebDataset tars, or as Parquet with encoded pictures")


def test_parts_as_spark_writes_them_are_read_the_empty_one_too(tmp_path: Path) -> None:
    keys, (labels, images) = [one.key for one in pictures.eight()], zip(*EIGHT, strict=True)
    table = pa.table({"key": keys, "image": images, "label": pa.array(labels, pa.int32())})
    for number, part in enumerate([table[:5], table[:0], table[5:]]):
        pq.write_table(part, tmp_path / f"part-{number:05d}-0f-c000.snappy.parquet")
    (tmp_path / "_SUCCESS").touch()
    assert content(read_folder(tmp_path)[0]) == EIGHT


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(("writer", "variant"), [("webdataset_shards", "mask"), ("hugging_face_parquet", "synsets")])
def test_such_data_is_evaluated_with_every_row_and_label(write: Write, tmp_path: Path, writer, variant) -> None:
    results = tmp_path / "results.json"
    flags = ["--results-file", str(results), "--tracking-uri", "none"]
    assert evaluations.run(write(writer) / variant, tmp_path / "out", *flags) == 0
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["labelled"], row["errors"]) == (8, 8, 0)


def test_and_such_that_is_not_read_is_one_line_before_anything_starts(write: Write, tmp_path: Path, capsys) -> None:
    for writer, variant in (("mosaic_shards", "plain"), ("ray_data", "tensors"), ("img2dataset_shards", "files")):
        assert evaluations.run(write(writer) / variant, tmp_path / "out") == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: no shard")
    assert not (tmp_path / "out" / "cells").exists()
