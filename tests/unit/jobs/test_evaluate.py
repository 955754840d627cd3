"""Covers jobs.evaluate, in this process on the session's Ray: its files, messages, options and exit codes."""

import json
from pathlib import Path

import pytest

from jobs.console.cli import UNFINISHED
from pipelines.cells.cell import read_cell
from pipelines.walk import filling
from tests.support.evaluations import MODEL, run
from tests.support.faulty_runs import logged_below_sweeps


def report(store: Path) -> dict[str, bytes]:
    """The report's files by path, and nothing else of the store."""
    return {str(p.relative_to(store)): p.read_bytes() for p in (store / "reports").rglob("*") if p.is_file()}


@pytest.mark.usefixtures("local_ray")
def test_a_run_leaves_results_a_report_and_one_mlflow_run_and_again_changes_nothing(
    data, store_folder, tmp_path, monkeypatch, capsys
) -> None:
    results = tmp_path / "results.json"
    assert run(data, store_folder, "--results-file", str(results)) == 0
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["model"], row["dataset"], row["n"], row["errors"], row["complete"]) == (MODEL, "val", 8, 0, True)
    assert row["top1"] == 100 * row["top1_count"] / 8
    before = report(store_folder)
    assert {Path(name).name for name in before} == {
        *("results.json", "results.csv", "summary.json"),
        *("per_class.parquet", "errors.parquet", "reliability.png"),
    }
    assert MODEL in capsys.readouterr().out

    def fail(*_: object) -> None:
        raise AssertionError("a finished evaluation was computed again")

    monkeypatch.setattr(filling, "fill", fail)
    assert run(data, store_folder) == 0
    assert report(store_folder) == before
    (logged,) = logged_below_sweeps(f"sqlite:///{store_folder}/mlflow.db")
    assert logged.data.metrics["top1_count"] == row["top1_count"]
    assert logged.data.params["weights_sha256"] == row["weights"]
    assert logged.data.params["dataset_digest"] in next(iter(before))
    assert {"torch_version", "git_commit", "preprocessing", "precision", "decoder", "card"} <= set(logged.data.params)


@pytest.mark.usefixtures("local_ray")
def test_a_limit_takes_the_first_images_and_is_never_taken_for_the_whole(data, store_folder, tmp_path) -> None:
    results = tmp_path / "results.json"
    flags = ("--results-file", str(results), "--tracking-uri", "none")
    for limit in (5, 8):
        assert run(data, store_folder, "--limit", str(limit), *flags) == 0
        assert json.loads(results.read_bytes())["results"][0]["n"] == limit
    assert len(list((store_folder / "reports").iterdir())) == 2


@pytest.mark.usefixtures("local_ray")
def test_without_mlflow_results_stay_and_are_logged_later(data, store_folder, capsys) -> None:
    assert run(data, store_folder, "--tracking-uri", "http://127.0.0.1:9") == 0
    assert "not logged to MLflow" in capsys.readouterr().err
    assert report(store_folder)
    assert run(data, store_folder, "--retrack") == 0
    (logged,) = logged_below_sweeps(f"sqlite:///{store_folder}/mlflow.db")
    assert logged.data.metrics["n"] == 8


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("name", ["any", "cells"])
def test_a_dataset_may_be_called_like_a_part_of_the_store(name, store_folder, tmp_path, write_tar, jpegs) -> None:
    write_tar(tmp_path / name / "00000.tar", [("a.jpg", jpegs[0]), ("a.cls", b"1")])
    for _ in range(2):
        assert run(tmp_path / name, store_folder, "--tracking-uri", "none") == 0


def test_a_dry_run_prints_the_plan_and_writes_nothing(data, store_folder, capsys) -> None:
    assert run(data, store_folder, "--dry-run") == 0
    said = capsys.readouterr().err
    assert "2 shards" in said
    assert "0 cells committed, 2 to do" in said
    assert not store_folder.exists()


def test_there_is_nothing_to_retrack_before_anything_is_committed(data, store_folder, capsys) -> None:
    assert run(data, store_folder, "--retrack") == 2
    assert "nothing is committed" in capsys.readouterr().err.splitlines()[-1]
    assert not store_folder.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "0"], "--batch-size 0: expected a positive number"),
        (["--limit", "-1"], "--limit -1: expected a positive number"),
        (["--device", "tpu"], "--device tpu: choose from auto, cpu, cuda"),
    ],
)
def test_an_impossible_option_is_one_line(flags, message, data, store_folder, capsys) -> None:
    assert run(data, store_folder, *flags) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"error: {message}")


def test_a_target_that_cannot_be_written_is_found_before_the_work(data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(filling, "fill", lambda *_: pytest.fail("Ray was started"))
    (tmp_path / "file").write_text("in the way")
    assert run(data, tmp_path / "file") == 2
    assert run(data, tmp_path / "out", "--results-file", str(tmp_path)) == 2
    assert [line[:6] for line in capsys.readouterr().err.splitlines()] == ["error:", "error:"]


@pytest.mark.usefixtures("local_ray")
def test_mlflow_shows_the_whole_after_a_part_though_the_part_scored_higher(
    data, store_folder, tmp_path, jpegs, write_tar
) -> None:
    """What was right in the first shard only: the score falls when the second comes, and MLflow must follow."""
    predicted = tmp_path / "predicted.json"
    run(data, tmp_path / "peek", "--results-file", str(predicted), "--tracking-uri", "none")
    (cell,) = (tmp_path / "peek" / "cells").rglob("00000-*.parquet")
    best = [row["classes"][0] for row in read_cell(str(cell), 10).to_pylist()]
    members = []
    for i, label in enumerate(best):
        members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", str(label).encode())]
    write_tar(data / "00000.tar", members)
    whole = (data / "00001.tar").read_bytes()
    (data / "00001.tar").write_bytes(whole[:2048])
    assert run(data, store_folder) == UNFINISHED
    (data / "00001.tar").write_bytes(whole)
    assert run(data, store_folder) == 0
    shown = [run.data.metrics for run in logged_below_sweeps(f"sqlite:///{store_folder}/mlflow.db")]
    assert {"top1": 50.0, "n": 8.0, "shards_committed": 2.0}.items() <= shown[0].items()
