"""Covers jobs.leaderboard from its command line: its files, tables, tracking and errors."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs import leaderboard
from pipelines import storage
from pipelines.cells import runs
from pipelines.evaluation import tracking
from pipelines.records import Settings
from tests.support.fake_stores import HOSTILE, column, dataset, fill, fill_judged

BF16 = Settings(precision="bf16")
FILES = {"leaderboard.html", "leaderboard.csv", "leaderboard.json", "model-index.yaml"}


def fill_store(store: str) -> None:
    data = dataset("photos", shards=2, rows=60)
    fill(store, data, column("resnest50d"), 0.8, keys=[HOSTILE])
    fill(store, data, column("resnest50d", BF16), 0.7, keys=[HOSTILE])
    fill(store, data, column("selecsls60"), 0.75)


@pytest.fixture
def filled(tmp_path: Path) -> str:
    fill_store(str(tmp_path / "store"))
    return str(tmp_path / "store")


def run(store: str, output: Path | str, *arguments: str, database: str = "none") -> int:
    return leaderboard.main(["--store", store, "--output", str(output), "--tracking-uri", database, *arguments])


def test_it_leaves_its_files_and_a_table_of_each_set(filled: str, tmp_path: Path, capsys) -> None:
    assert run(filled, tmp_path / "board", "--results-file", str(tmp_path / "results.json")) == 0
    assert {path.name for path in (tmp_path / "board").iterdir()} == FILES
    results = json.loads((tmp_path / "results.json").read_bytes())["results"]
    assert [(entry["model"], entry["precision"], entry["top1"]) for entry in results] == [
        ("resnest50d", "fp32", 80.0),
        ("selecsls60", "fp32", 75.0),
        ("resnest50d", "bf16", 70.0),
    ]
    said = capsys.readouterr()
    assert "80.00 7" in said.out and "photos" in said.out
    assert "17 cards without a cell: efficientnet_lite0, " in said.err


def test_a_store_in_s3_gives_the_same_files_twice(store: str) -> None:
    fill_store(store)
    one, two = (storage.join(store, "boards", name) for name in ("one", "two"))
    assert (run(store, one), run(store, two)) == (0, 0)
    for name in FILES:
        assert storage.read(storage.join(one, name)) == storage.read(storage.join(two, name))


def test_a_claim_that_differs_is_said_and_fails_the_job_only_where_asked(tmp_path: Path, capsys) -> None:
    store, sets = fill_judged(tmp_path)
    defined = ["--datasets", sets, "--models", "resnest50d,selecsls60"]
    assert run(store, tmp_path / "board", *defined) == 0
    assert run(store, tmp_path / "board", *defined, "--fail-on-mismatch") == 4
    said = capsys.readouterr()
    assert (
        "differs  selecsls60 fp32 exact on Tiny validation: top1 claimed 77.99, -7.990 points, -32 images" in said.err
    )
    assert all(text in said.out for text in ("80.96", "81.00 7", "+0.04", "reproduced"))
    assert run(store, tmp_path / "board", *defined[:2], "--models", "resnest50d", "--fail-on-mismatch") == 4  # top-5


def test_models_are_chosen_and_those_left_out_are_said(filled: str, tmp_path: Path, capsys) -> None:
    assert run(filled, tmp_path, "--models", "selecsls60") == 0
    said = capsys.readouterr()
    assert "resnest50d" not in said.out and "left out, not among --models and --cards: resnest50d" in said.err


def test_images_a_second_are_mlflows_and_the_board_is_a_run_of_its_own(filled: str, tmp_path: Path) -> None:
    uri, data, of = f"sqlite:///{tmp_path}/mlflow.db", dataset("photos", shards=2, rows=60), column("selecsls60")
    record = tracking.Record(
        name="selecsls60 on photos",
        identity=runs.evaluation_id(of.name, data.name, data.digest),
        params={},
        metrics={"images_per_second": 41.5},
        artifacts={},
    )
    tracking.log(uri, filled, [record])
    for _ in range(2):
        assert run(filled, tmp_path / "board", database=uri) == 0
    results = json.loads((tmp_path / "board" / "leaderboard.json").read_bytes())["results"]
    assert [entry["images_per_second"] for entry in results] == [None, 41.5, None]
    client = MlflowClient(uri)
    (found,) = client.search_runs(
        [client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id], "attributes.run_name = 'leaderboard'"
    )
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == FILES


def test_mlflow_away_costs_the_speeds_and_not_the_board(filled: str, tmp_path: Path, capsys) -> None:
    assert run(filled, tmp_path / "board", database="http://127.0.0.1:9") == 0
    assert {path.name for path in (tmp_path / "board").iterdir()} == FILES
    said = capsys.readouterr().err
    assert (
        "images per second and versions are not known, since MLflow is unavailable" in said
        and "not logged to MLflow" in said
    )


@pytest.mark.parametrize("b", ["precision=bf16", column("resnest50d", BF16).name])
def test_two_settings_are_compared_image_by_image(filled: str, tmp_path: Path, b: str, capsys) -> None:
    assert run(filled, tmp_path / "diff", "--diff", "precision=fp32", b) == 0
    (pair,) = json.loads((tmp_path / "diff" / "diff.json").read_bytes())["pairs"]
    assert (pair["a"]["model"], pair["b"]["model"]) == ("resnest50d", "resnest50d")
    assert pair["settings"] == {"settings.precision": ["fp32", "bf16"]}
    assert (pair["images"], pair["right_to_wrong"] - pair["wrong_to_right"]) == (120, 12)
    assert (tmp_path / "diff" / "flips.parquet").is_file()
    assert "settings.precision: fp32 / bf16" in capsys.readouterr().out


def test_two_stores_are_compared_with_the_versions_that_mlflow_knows(filled: str, tmp_path: Path, capsys) -> None:
    other, data, of = str(tmp_path / "other"), dataset("photos", shards=2, rows=60), column("selecsls60")
    fill(other, data, of, 0.7)
    for store, version in ((filled, "2.9"), (other, "2.10")):
        identity = runs.evaluation_id(of.name, data.name, data.digest)
        about = {"torch_version": version, "git_commit": "abc"}
        tracking.log(
            tracking.default_uri(store),
            store,
            [tracking.Record(name="r", identity=identity, params=about, metrics={}, artifacts={})],
        )
    command = ["--store", filled, "--output", str(tmp_path / "diff"), "--diff", filled, other]
    assert leaderboard.main(command) == 0
    (pair,) = json.loads((tmp_path / "diff" / "diff.json").read_bytes())["pairs"]
    assert (pair["a"]["store"], pair["b"]["store"]) == (filled, other)
    assert (pair["settings"], pair["environment"]) == ({}, {"torch_version": ["2.9", "2.10"]})
    assert "torch_version: 2.9 / 2.10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--diff", "precision=fp16", "precision=fp32"], "values of precision here: bf16, fp32"),
        (["--diff", "precision=fp32", "decoder=exact", "--fail-on-mismatch"], "--diff judges none"),
        (["--diff", "precision=fp32", "nowhere"], "neither a store with cells nor a column or setting"),
        (["--models", "resnset*"], "resnset"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(filled: str, tmp_path: Path, arguments, told: str, capsys) -> None:
    assert run(filled, tmp_path / "board", *arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert told in line


def test_an_empty_store_is_refused_with_what_fills_one(tmp_path: Path, capsys) -> None:
    assert run(str(tmp_path / "nothing"), tmp_path / "board") == 2
    assert "nothing is evaluated there; `jobs.evaluate --store" in capsys.readouterr().err
