"""Covers jobs.tune from its command line: what it keeps, what it shows, which options are errors."""

import json
from pathlib import Path

import pytest

import zoo
from jobs import tune as job
from pipelines.models import tune

MODEL = "efficientnet_lite0"


def run(store: str, *arguments: str) -> int:
    return job.main(["--models", MODEL, "--store", store, "--device", "cpu", *arguments])


@pytest.fixture
def quick(monkeypatch) -> None:
    """One candidate beside plain settings, measured for a moment."""
    monkeypatch.setattr(tune, "_CPU", ({"fold": True, "channels_last": True, "batch_size": 8},))
    monkeypatch.setattr(tune, "_SECONDS", 0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray", "quick")
def test_each_precision_is_tuned_kept_and_shown(tmp_path: Path, capsys) -> None:
    store, results = f"{tmp_path}/out", tmp_path / "results.json"
    assert run(store, "--precision", "fp32", "bf16", "--results-file", str(results)) == 0
    said = json.loads(results.read_bytes())
    assert not said["failed"]
    shown = capsys.readouterr()
    assert shown.err.count("top-1 as plain fp32") == 4
    for precision, tuning in zip(("fp32", "bf16"), said["tunings"], strict=True):
        found = tune.find(store, zoo.card(MODEL), precision, "cpu")
        assert found is not None
        assert found.precision == tuning["settings"]["precision"] == precision
        assert str(found) in " ".join(shown.out.split())


@pytest.mark.usefixtures("local_ray", "quick")
@pytest.mark.slow
def test_a_model_that_cannot_be_run_is_named_and_the_others_are_tuned(tmp_path: Path, monkeypatch, capsys) -> None:
    tuned = tune.tune

    def failing(card: zoo.Card, *rest) -> tune.Tuning:
        if card.name != MODEL:
            raise ValueError(f"{card.name}: cannot run in fp32: out of memory")
        return tuned(card, *rest)

    monkeypatch.setattr(tune, "tune", failing)
    assert run(f"{tmp_path}/out", "--models", f"resnest14d,{MODEL}") == 3
    assert "failed   resnest14d (fp32): cannot run in fp32: out of memory" in capsys.readouterr().err
    assert tune.find(f"{tmp_path}/out", zoo.card(MODEL), "fp32", "cpu")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--precision", "tf32"], "only GPUs have it"),
        (["--precision", "fp32", "fp32"], "each once"),
        (["--device", "tpu"], "choose from auto, cpu, cuda"),
        (["--models", "efficientnet_lite9"], "did you mean efficientnet_lite0"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_measured(tmp_path: Path, capsys, arguments, told) -> None:
    assert run(f"{tmp_path}/out", *arguments) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
