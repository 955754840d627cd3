"""The whole job, from a folder of 250 real ImageNet images to numbers, against an independent reference."""

import csv
import json
from pathlib import Path

import pytest

import zoo
from jobs import evaluate, pack_shards
from pipelines import cells, shards
from pipelines.cells import Column
from zoo import wanted

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

    with (sample_images / f"{MODEL}.csv").open() as file:
        expected = {line["key"]: line for line in csv.DictReader(file)}
    column = Column(card=zoo.card(MODEL), file=wanted.published(zoo.card(MODEL)))
    measured = [r for _, rows in cells.load(str(store), shards.find([str(data)]), column) for r in rows.to_pylist()]
    assert {r["key"] for r in measured} == set(expected)
    for r in measured:
        reference = expected[r["key"]]
        assert r["classes"][0] == int(reference["class0"])
        assert r["probs"][0] == pytest.approx(float(reference["prob0"]), abs=0.001)
