"""The leaderboard's side of MLflow: what it reads from the runs of evaluations, and its own run.

MLflow is optional here: without it the leaderboard lacks images per second and library versions, and nothing else.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.console.progress import say
from jobs.steps import provenance
from pipelines import storage
from pipelines.cells import runs
from pipelines.records import short_digest

if TYPE_CHECKING:
    from pipelines.cells.inventory import StoredColumn
    from pipelines.evaluation.tracking import Logged
    from pipelines.leaderboard.pairs import Pair


def logged_runs(tracking_uri: str | None, store: str) -> "Mapping[str, Logged]":
    """The runs of `store` in MLflow by identity; none, with a warning, if MLflow is unavailable."""
    if tracking_uri == "none":
        return {}
    provenance.limit_mlflow_retries()
    from pipelines.evaluation import tracking

    try:
        return tracking.logged(tracking_uri or tracking.default_uri(store))
    except tracking.TrackingError as error:
        say(f"warning: images per second and versions are not known, since MLflow is unavailable: {error}")
        return {}


def images_per_second(column: "StoredColumn", logged: "Mapping[str, Logged]") -> float | None:
    """The speed of a column, if its run is logged."""
    run = _run_of(column, logged)
    return run.metrics.get("images_per_second") if run else None


def environment_differences(pair: "Pair", logged: "Mapping[str, Mapping[str, Logged]]") -> dict[str, tuple[str, str]]:
    """Library versions and commit in which two columns differ, as far as the runs of both are logged.

    Args:
        pair: the columns.
        logged: the runs by identity, by store.
    """
    found = [_run_of(column, logged[column.store]) for column in (pair.a, pair.b)]
    a, b = ({} if run is None else run.params for run in found)
    names = [name for name in sorted(a.keys() & b.keys()) if name.endswith("_version") or name == "git_commit"]
    return {name: (a[name], b[name]) for name in names if a[name] != b[name]}


def _run_of(column: "StoredColumn", logged: "Mapping[str, Logged]") -> "Logged | None":
    return logged.get(runs.evaluation_id(column.name, column.dataset.name, column.dataset.digest)) if logged else None


def log_leaderboard(tracking_uri: str | None, store: str, files: Mapping[str, bytes]) -> None:
    """Log the leaderboard's files as the one run of the leaderboard of `store`; print a warning if that fails."""
    if tracking_uri == "none":
        return
    from pipelines.evaluation import tracking

    absolute = storage.absolute(store)
    record = tracking.Record(
        name="leaderboard",
        identity=short_digest(["leaderboard", absolute]),
        params={"store": absolute},
        metrics={},
        artifacts=files,
    )
    try:
        tracking.log(tracking_uri or tracking.default_uri(store), store, [record])
    except tracking.TrackingError as error:
        say(f"warning: not logged to MLflow: {error}")
