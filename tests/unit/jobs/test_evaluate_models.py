"""Covers jobs.evaluate: several models in one pass, a checkpoint, and models whose weights do not fit or are away."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
import yaml

import zoo
from jobs import evaluate
from jobs.console.cli import UNFINISHED
from pipelines.cells.cell import read_cell
from pipelines.cluster import connection
from tests.support.evaluations import MODEL, run


def test_an_unknown_model_is_one_line_with_near_matches(data, store_folder, capsys) -> None:
    arguments = ["--models", "efficientnet_lite", "--data", str(data), "--store", str(store_folder)]
    assert evaluate.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert MODEL in said


AWAY = "http://127.0.0.1:9/mine-01234567.pth"


def users_card(folder: Path, location: str | None = None, **metadata: object) -> str:
    """A model-index of one model, `mine`: the package's network and weights, if no others, with other test settings."""
    card = zoo.card(MODEL)
    assert card.weights is not None
    settings = {"ID": MODEL, "Image Size": 160, "Crop Pct": 0.9, "Interpolation": "bilinear", **metadata}
    entry = {"Name": "mine", "Metadata": settings, "Weights": location or card.weights.location}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"Models": [entry]}))
    return str(path)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_two_models_of_one_pass_have_the_cells_of_two_runs_bit_for_bit(data, store_folder, tmp_path) -> None:
    cards = users_card(tmp_path)
    both = ["--models", f"{MODEL},mine", "--cards", cards, "--data", str(data), "--batch-size", "4"]
    assert evaluate.main([*both, "--store", str(store_folder), "--tracking-uri", "none"]) == 0
    for model in (MODEL, "mine"):
        alone = ["--models", model, "--cards", cards, "--data", str(data), "--batch-size", "4"]
        assert evaluate.main([*alone, "--store", str(tmp_path / "alone"), "--tracking-uri", "none"]) == 0
    written = {
        store: {str(p.relative_to(store)): p.read_bytes() for p in (store / "cells").rglob("*.parquet")}
        for store in (store_folder, tmp_path / "alone")
    }
    assert len(written[store_folder]) == 4
    assert written[store_folder] == written[tmp_path / "alone"]


@pytest.mark.usefixtures("local_ray")
def test_a_checkpoint_in_place_of_the_cards_has_cells_of_its_own(data, store_folder, tmp_path, capsys) -> None:
    state = zoo.create(MODEL, weights="card").state_dict()
    checkpoint = tmp_path / "tuned.pth"
    torch.save({**state, "classifier.bias": state["classifier.bias"] + torch.eye(1000)[7] * 1000}, checkpoint)
    assert run(data, store_folder, "--checkpoint", str(checkpoint), "--tracking-uri", "none") == 0
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    (column,) = (store_folder / "cells" / "val").iterdir()
    assert column.name.startswith(f"{MODEL}-{digest[:8]}-")
    rows = [row for path in column.iterdir() for row in read_cell(str(path), 10).to_pylist()]
    assert {row["classes"][0] for row in rows} == {7}
    cards = users_card(tmp_path)
    refused = ["--models", f"{MODEL},mine", "--cards", cards, "--data", str(data), "--checkpoint", str(checkpoint)]
    assert evaluate.main(refused) == 2
    assert "goes with one model, not with 2 (efficientnet_lite0, mine)" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_used_ends_with_2_before_ray_starts(
    data, store_folder, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(connection, "connect", lambda *_: pytest.fail("Ray was started"))
    state = zoo.create(MODEL, weights="card").state_dict()
    for content, arguments, message in (
        ({"state_dict": state, "state_dict_ema": state}, [], "--weights-key state_dict or state_dict_ema"),
        ({"state_dict": state}, ["--weights-key", "ema"], "has no set of weights 'ema'; it has state_dict"),
        (zoo.create(MODEL, num_classes=10).state_dict(), [], "2 mis-shaped: classifier.weight is (10, 1280)"),
    ):
        torch.save(content, tmp_path / "last.pth.tar")
        assert run(data, store_folder, "--checkpoint", str(tmp_path / "last.pth.tar"), *arguments) == 2
        assert message in capsys.readouterr().err
    assert run(data, store_folder, "--weights-key", "ema") == 2
    assert "--weights-key ema: goes with --checkpoint" in capsys.readouterr().err


def test_each_set_of_weights_in_a_checkpoint_has_cells_of_its_own(data, store_folder, tmp_path, capsys) -> None:
    state = zoo.create(MODEL, weights="card").state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}, "ema": state}, tmp_path / "a.pth")
    columns = set()
    for key in ("model", "ema"):
        options = ["--checkpoint", str(tmp_path / "a.pth"), "--weights-key", key, "--dry-run"]
        assert run(data, store_folder, *options) == 0
        said = capsys.readouterr().err
        assert f"weights  {MODEL}: took {key}" in said
        assert ("removed the prefix module." in said) == (key == "model")
        columns |= set(re.findall(rf"model    ({MODEL}-\S+): 0 cells", said))
    assert len(columns) == 2


@pytest.mark.usefixtures("local_ray")
def test_a_model_whose_weights_do_not_fit_loses_its_own_cells_alone(data, store_folder, tmp_path, capsys) -> None:
    misfit = tmp_path / "misfit.pth"
    torch.save(zoo.create(MODEL, num_classes=10).state_dict(), misfit)
    digest = hashlib.sha256(misfit.read_bytes()).hexdigest()
    path = Path(users_card(tmp_path, str(misfit), **{"SHA-256": digest}))
    # The misfit comes first by name, and its rows first in every chunk.
    path.write_text(path.read_text().replace("Name: mine", "Name: a_misfit"))
    command = ["--models", f"{MODEL},a_misfit", "--cards", str(path), "--data", str(data), "--batch-size", "4"]
    assert evaluate.main([*command, "--store", str(store_folder), "--tracking-uri", "none"]) == UNFINISHED
    said = capsys.readouterr().err
    assert "failed   a_misfit: " in said
    assert "misfit.pth does not fit EfficientNetLite: 2 mis-shaped: classifier.weight is (10, 1280)" in said
    assert "8 images in " in said
    assert run(data, store_folder, "--tracking-uri", "none") == 0
    assert "2 cells committed, 0 to do" in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_models_without_weights_lose_their_own_cells_alone(data, store_folder, tmp_path, new_machine, capsys) -> None:
    new_machine()
    cards, results = users_card(tmp_path, AWAY), tmp_path / "results.json"
    command = ["--models", f"{MODEL},mine,sknet50", "--cards", cards, "--data", str(data), "--batch-size", "4"]
    command += ["--store", str(store_folder), "--tracking-uri", "none", "--results-file", str(results)]
    assert evaluate.main([*command, "--dry-run"]) == UNFINISHED
    assert evaluate.main(command) == UNFINISHED
    said = capsys.readouterr().err
    assert "failed   mine: mine-01234567.pth is not available: " in said
    assert "failed   sknet50: no SHA-256 of its weights is published" in said
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["model"], row["n"], row["complete"]) == (MODEL, 8, True)


def test_models_without_weights_are_named_before_ray_starts(data, store_folder, tmp_path, new_machine, capsys) -> None:
    new_machine()
    command = [
        "--models",
        "mine",
        "--cards",
        users_card(tmp_path, AWAY),
        "--data",
        str(data),
        "--store",
        str(store_folder),
    ]
    assert evaluate.main(command) == 2
    said = capsys.readouterr().err
    assert "error: mine: mine-01234567.pth is not available: " in said
    assert f"; {AWAY}: ConnectionError" in said
    assert not (store_folder / "cells").exists()
