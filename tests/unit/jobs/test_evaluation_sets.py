"""Covers --dataset and --datasets of jobs.evaluate: claims are judged, classes masked, unknown sets named."""

import json
from pathlib import Path

import pytest
import yaml

import zoo
from jobs import evaluate, leaderboard
from jobs.console.cli import BAD_ARGUMENTS, DONE, UNFINISHED
from pipelines import storage
from pipelines.cells.cell import read_cell

MODEL = "efficientnet_lite0"
IMAGES, CLASSES = 8, list(range(0, 40, 2))


@pytest.fixture
def data(tmp_path, write_tar, jpegs) -> Path:
    """Eight pictures in two shards; their labels, 0 to 7, are wrong for all that the model says of them."""
    for shard in range(2):
        members = []
        for i in range(4 * shard, 4 * shard + 4):
            members += [(f"street/{i + 1}.jpg", jpegs[i]), (f"street/{i + 1}.cls", b"%d" % i)]
        write_tar(tmp_path / "val" / f"{shard:05d}.tar", members)
    return tmp_path / "val"


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Options that define a set, a view of it and one of few classes, and a card that claims something of them."""
    view = {"Name": "street-all", "Title": "All", "Of": "street", "Labels": str(tmp_path / "all.json"), "Images": 4}
    sets = [
        {"Name": "street", "Title": "Street", "Images": IMAGES, "Claims": "street"},
        {**view, "Key": r"street/(\d+)$", "Claims": "street-all"},
        {"Name": "few", "Title": "Few", "Classes": CLASSES},
    ]
    (tmp_path / "all.json").write_text(json.dumps([list(range(1000))] * 4 + [[]] * 4))
    card = zoo.card(MODEL)
    assert card.weights
    results = [
        {"Task": "Image Classification", "Dataset": name, "Metrics": {"Top 1 Accuracy": claimed}}
        for name, claimed in (("street", "0.0%"), ("street-all", "99.00%"))
    ]
    facts = {"ID": MODEL, "Image Size": 224, "Crop Pct": 0.875, "Interpolation": "bicubic"}
    mine = {"Name": "mine", "Metadata": facts, "Weights": card.weights.location, "Results": results}
    mine["Metadata"]["SHA-256"] = card.weights.sha256
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump({"Datasets": sets}))
    (tmp_path / "cards.yaml").write_text(yaml.safe_dump({"Models": [mine]}))
    return ["--datasets", str(tmp_path / "sets.yaml"), "--cards", str(tmp_path / "cards.yaml")]


def run(data: Path, store: Path, *flags: str) -> int:
    always = ["--data", str(data), "--store", str(store), "--batch-size", "4", "--tracking-uri", "none"]
    return evaluate.main([*always, *flags])


@pytest.mark.usefixtures("local_ray")
def test_claims_are_judged_on_the_set_that_the_data_is_said_to_be_and_on_its_views(
    data, files, tmp_path, capsys
) -> None:
    store = tmp_path / "out"
    assert run(data, store, "--models", "mine,sknet50", *files, "--dataset", "street") == UNFINISHED
    said = capsys.readouterr().out
    assert "verdict  mine fp32 exact: top1 claimed 0.00, measured 0.000 (+0.000 points, +0 images): reproduced" in said
    assert "sknet50" not in said, "it claims nothing of that set"
    board = ["--store", str(store), "--output", str(tmp_path / "board"), "--tracking-uri", "none", *files]
    assert leaderboard.main([*board, "--fail-on-mismatch"]) == 4
    rows = json.loads((tmp_path / "board" / "leaderboard.json").read_bytes())["results"]
    judged = {row["dataset"]: (row["n"], row["top1"], [claim["verdict"] for claim in row["claims"]]) for row in rows}
    assert judged == {"street": (8, 0.0, ["reproduced"]), "street-all": (4, 100.0, ["differs"])}


@pytest.mark.usefixtures("local_ray")
def test_of_a_set_of_few_classes_no_other_is_predicted_and_another_label_is_an_error(data, files, tmp_path) -> None:
    store, results = tmp_path / "out", tmp_path / "results.json"
    flags = ["--models", "mine", *files, "--dataset", "few", "--max-bad-rate", "1", "--results-file", str(results)]
    assert run(data, store, *flags) == BAD_ARGUMENTS  # labels that are no class, said after the report
    (row,) = json.loads(results.read_bytes())["results"]
    assert row["error_reasons"] == {"label out of range": 4}
    tables = [read_cell(entry.uri, 10) for entry in storage.list_objects(str(store / "cells"))]
    assert {c for rows in tables for kept in rows["classes"].to_pylist() for c in kept} <= set(CLASSES)
    assert all(abs(sum(kept) - 1) < 0.3 for rows in tables for kept in rows["probs"].to_pylist())


def test_a_set_that_is_not_known_is_named_with_those_that_are_before_anything_begins(
    data, files, tmp_path, capsys
) -> None:
    for name, told in (("imagnet-val", "did you mean imagenet-val"), ("street-all", "is street with other labels")):
        assert run(data, tmp_path / "out", "--models", "mine", *files, "--dataset", name) == BAD_ARGUMENTS
        assert told in capsys.readouterr().err
    assert run(data, tmp_path / "out", "--models", MODEL, *files, "--dataset", "few", "--dry-run") == DONE
