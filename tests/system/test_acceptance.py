"""The whole job, from a folder of 250 real ImageNet images to numbers, against an independent reference."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from jobs import evaluate, pack_shards
from pipelines import storage
from pipelines.cells.cell import load_cells
from pipelines.cells.column import Column
from pipelines.data.dataset import find_dataset
from tests.support import faulty_runs
from zoo.weights import wanted

MODEL = "efficientnet_lite0"

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(400)]


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_the_published_model_reproduces_its_reference_on_real_images(sample_images: Path, tmp_path, form) -> None:
    data, store, results = tmp_path / "val", tmp_path / "out", tmp_path / "results.json"
    pack = ["--images", str(sample_images / "images"), "--labels", str(sample_images / "labels.csv")]
    assert pack_shards.main([*pack, "--output", str(data), "--samples-per-shard", "60", "--format", form]) == 0
    evaluated = ["--models", MODEL, "--data", str(data), "--store", str(store), "--results-file", str(results)]
    assert evaluate.main([*evaluated, "--tracking-uri", "none"]) == 0

    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["errors"], row["top1_count"], row["top5_count"]) == (250, 0, 224, 242)

    require_reference(sample_images, str(data), str(store))


def require_reference(sample_images: Path, data: str, store: str) -> None:
    """Every picture's first class and its probability are those that timm's model gives."""
    with (sample_images / f"{MODEL}.csv").open() as file:
        expected = {line["key"]: line for line in csv.DictReader(file)}
    column = Column(card=zoo.card(MODEL), file=wanted.published(zoo.card(MODEL)))
    measured = [r for _, rows in load_cells(store, find_dataset([data]), column) for r in rows.to_pylist()]
    assert {r["key"] for r in measured} == set(expected)
    for r in measured:
        reference = expected[r["key"]]
        assert r["classes"][0] == int(reference["class0"])
        assert r["probs"][0] == pytest.approx(float(reference["prob0"]), abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("store", [pytest.param("s3", marks=pytest.mark.thorough), "rclone"], indirect=True)
def test_so_it_does_from_and_to_either_s3_server(sample_images: Path, store: str, tmp_path: Path) -> None:
    """Jobs of their own: workers take the server's address from the environment that they start in."""
    images = ["--images", f"{sample_images}/images", "--labels", f"{sample_images}/labels.csv"]
    data, env = f"{store}/val", {**os.environ, "RAY_ADDRESS": "local"}
    job = [sys.executable, "-m", "jobs.pack_shards", *images, "--output", data, "--samples-per-shard", "60"]
    subprocess.run(job, cwd=faulty_runs.ROOT, env=env, check=True)
    flags = ["--results-file", f"{store}/results.json", "--batch-size", "32"]
    code, said = faulty_runs.start(data, f"{store}/out", *flags, env=env).wait()
    assert code == 0, said
    (row,) = json.loads(storage.read(f"{store}/results.json"))["results"]
    assert (row["n"], row["errors"], row["top1_count"], row["top5_count"]) == (250, 0, 224, 242)
    require_reference(sample_images, data, f"{store}/out")
