"""Covers tracking: later values show, parameters stay, every failure is one error without secrets."""

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
