"""Covers tracking: later values show, parameters stay, every failure is one error without secrets."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.evaluation import tracking
from pipelines.evaluation.tracking import Record, TrackingError

RECORD = Record(
    name="a model on a dataset",
    identity="ab12cd34",
    params={"git_commit": "first"},
    metrics={"top1": 80.0, "n": 4},
    artifacts={"summary.json": b"{}"},
)


def shown(store: Path):
    (run,) = MlflowClient(tracking.default_uri(str(store))).search_runs(["1"])
    return run.data


def test_a_value_that_falls_shows_and_the_first_parameters_stand(tmp_path) -> None:
    uri = tracking.default_uri(str(tmp_path))
    first = tracking.log(uri, str(tmp_path), [RECORD])
    later = replace(RECORD, metrics={"top1": 70.0, "n": 8}, params={"git_commit": "second"})
    assert tracking.log(uri, str(tmp_path), [later]) == first
    assert shown(tmp_path).metrics == {"top1": 70.0, "n": 8}
    assert shown(tmp_path).params == {"git_commit": "first"}


@pytest.mark.timeout(60)
def test_a_database_that_is_damaged_or_has_no_driver_is_a_tracking_error(tmp_path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    for uri in (tracking.default_uri(str(tmp_path)), "mysql://127.0.0.1/nothing"):
        with pytest.raises(TrackingError, match=uri.partition(":")[0]):
            tracking.log(uri, str(tmp_path), [RECORD])


def test_a_password_never_reaches_the_message(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as failed:
        tracking.log("http://user:SECRET@127.0.0.1:9", str(tmp_path), [RECORD])
    assert "SECRET" not in str(failed.value)
    assert "127.0.0.1:9" in str(failed.value)


def test_runs_of_a_sweep_lie_below_it_and_a_second_command_adds_to_the_same(tmp_path) -> None:
    uri = tracking.default_uri(str(tmp_path))
    sweep = replace(RECORD, name="sweep", identity="5weeb", metrics={})
    first, second = RECORD, replace(RECORD, name="another", identity="ef56ab78")
    for records in ([first], [first, second]):
        tracking.log(uri, str(tmp_path), records, sweep)
    runs = {run.info.run_name: run for run in MlflowClient(uri).search_runs(["1"])}
    assert len(runs) == 3
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert parents == {"sweep": None} | dict.fromkeys((first.name, "another"), runs["sweep"].info.run_id)


def test_what_is_logged_is_found_by_identity_however_many_pages_it_has(tmp_path, monkeypatch) -> None:
    uri = tracking.default_uri(str(tmp_path))
    assert tracking.logged(uri) == {}
    records = [replace(RECORD, identity=f"id{i}", metrics={"top1": float(i)}) for i in range(5)]
    tracking.log(uri, str(tmp_path), records)
    monkeypatch.setattr(tracking, "_PAGE", 2)
    found = tracking.logged(uri)
    assert {name: entry.metrics["top1"] for name, entry in found.items()} == {f"id{i}": float(i) for i in range(5)}
    assert found["id0"].params == {"git_commit": "first"}


def test_a_store_whose_path_has_signs_of_urls_holds_its_own_database(tmp_path) -> None:
    for name in ("a?b", "a%20b", "a#b", "x?y#z%25 w", "a?uri=true"):
        store = tmp_path / name / "out"
        store.mkdir(parents=True)  # the cells are there before
        (run,) = tracking.log(tracking.default_uri(str(store)), str(store), [RECORD])
        assert (store / "mlflow.db").is_file(), name
        assert [item.path for item in MlflowClient(tracking.default_uri(str(store))).list_artifacts(run)]
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("call", [tracking.logged, lambda uri: tracking.find_run(uri, RECORD.identity)])
def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(tmp_path, call) -> None:
    uri = tracking.default_uri(str(tmp_path / "a b"))
    (run,) = tracking.log(uri, str(tmp_path / "a b"), [RECORD])
    MlflowClient(uri).delete_experiment("1")
    for attempt in (call, lambda uri: tracking.log(uri, str(tmp_path / "a b"), [RECORD])):
        with pytest.raises(TrackingError, match="restore it with") as told:
            attempt(uri)
    command = str(told.value).partition("restore it with: ")[2]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, shell=True, check=True, env=environment, capture_output=True)
    assert tracking.log(uri, str(tmp_path / "a b"), [RECORD]) == [run]
