"""MLflow: one run for each (model, dataset) below one for each sweep, one for each training.

Runs hold the same numbers as the report, and logging again changes nothing. No result depends on MLflow: it is called
after everything is committed, so a server that cannot be reached loses nothing. Numbers by class are artefacts, since
MLflow is slow with a thousand metrics in a run.
"""

import logging
import shlex
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipelines import storage
from pipelines.messages import one_line, public_url
from pipelines.storage.layout import MLFLOW_ARTIFACTS

EXPERIMENT = "menagerie"
_IDENTITY = "menagerie.identity"
_LONGEST_PARAM = 6000  # MLflow's own limit
_PAGE = 1000
_SIGNS_OF_URLS = frozenset("?#%")


class TrackingError(Exception):
    """MLflow could not be reached or reported an error; the message names the tracking URI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The content of one run, which is found by its `identity`: the same evaluation is never two runs.

    `artifacts` are contents by file name.
    """

    name: str
    identity: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    artifacts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Point:
    """Metrics at one step of a training."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Logged:
    """What MLflow holds of one run."""

    metrics: Mapping[str, float]
    params: Mapping[str, str]


def default_uri(store: str) -> str:
    """An SQLite file in the store, or in the working directory where the store is remote: SQLite needs a local disk."""
    folder = Path() if storage.is_remote(store) else storage.local_path(store)
    path = str(folder.absolute() / "mlflow.db")
    # MLflow also makes an empty folder of the quoted name; unquoted, the database would lie in another file.
    return f"sqlite:///{quote(path) if _SIGNS_OF_URLS & set(path) else path}"


def log(tracking_uri: str, store: str, records: Sequence[Record], sweep: Record | None = None) -> list[str]:
    """Log each of `records` into the run of its identity, created if there is none, below the run of `sweep`.

    Returns:
        The run ids, in the order of `records`.

    Raises:
        TrackingError: if MLflow cannot be reached or reports an error.
    """
    with _client(tracking_uri) as client:
        experiment = _experiment(client, tracking_uri, store)
        parent = _log_one(client, experiment, sweep, {}) if sweep else None
        tags = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        return [_log_one(client, experiment, record, tags) for record in records]


def log_curve(tracking_uri: str, store: str, record: Record, points: Sequence[Point]) -> str:
    """Log those of `points` that are not there yet into the run of the identity of `record`.

    Returns:
        The run's id.

    Raises:
        TrackingError: if MLflow cannot be reached or reports an error.
    """
    with _client(tracking_uri) as client:
        run = _log_one(client, _experiment(client, tracking_uri, store), record, {})
        names = {name for point in points for name in point.values}
        there = {name: {metric.step for metric in client.get_metric_history(run, name)} for name in names}
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, point.step)
            for point in points
            for name, value in point.values.items()
            if point.step not in there[name]
        ]
        for start in range(0, len(metrics), _PAGE):
            client.log_batch(run, metrics=metrics[start : start + _PAGE])
        return run


def register(tracking_uri: str, name: str, run: str, tags: Mapping[str, str]) -> None:
    """Make the run's model a version of the registered model `name`, once.

    Raises:
        TrackingError: if MLflow cannot be reached or reports an error.
    """
    with _client(tracking_uri) as client:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        if client.search_model_versions(f"name = '{name}' and run_id = '{run}'"):
            return
        client.create_model_version(name, client.get_run(run).info.artifact_uri or "", run, tags=dict(tags))


def find_run(tracking_uri: str, identity: str | None, model: str | None = None) -> str | None:
    """The id of the earliest run with `identity`, or of `model` if `identity` is None; None if there is none.

    Raises:
        TrackingError: if MLflow cannot be reached or reports an error.
    """
    with _client(tracking_uri) as client:
        experiment = _existing(client, tracking_uri)
        wanted = f"tags.`{_IDENTITY}` = '{identity}'" if identity else f"params.model = '{model}'"
        if experiment is None:
            return None
        order = ["attributes.start_time ASC"]
        runs = client.search_runs([experiment.experiment_id], wanted, max_results=1, order_by=order)
        return runs[0].info.run_id if runs else None


def logged(tracking_uri: str) -> dict[str, Logged]:
    """What is logged, by the identities of the runs; of two runs with one identity, the later counts.

    Raises:
        TrackingError: if MLflow cannot be reached or reports an error.
    """
    with _client(tracking_uri) as client:
        found = _existing(client, tracking_uri)
        runs = _all_runs(client, found.experiment_id) if found else ()
        return {run.data.tags[_IDENTITY]: Logged(run.data.metrics, run.data.params) for run in runs}


def _all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    page = None
    while page is None or page.token:  # pyright: ignore[reportUnknownMemberType]
        page = client.search_runs(
            [experiment],
            f"tags.`{_IDENTITY}` LIKE '%'",
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=page.token if page else None,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        )
        yield from page


@contextmanager
def _client(tracking_uri: str) -> Generator[MlflowClient]:
    """A client whose errors become a TrackingError without passwords."""
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        yield MlflowClient(tracking_uri)
    except TrackingError:
        raise
    except Exception as error:  # drivers and stores below MLflow raise their own kinds, and none may cost a result
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrackingError(f"{public_url(tracking_uri)}: {one_line(reason)}") from error


def _existing(client: MlflowClient, tracking_uri: str) -> Experiment | None:
    """Our experiment, if there is one. One that was deleted takes no runs, and its name cannot be used again."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found and found.lifecycle_stage != LifecycleStage.ACTIVE:
        where = public_url(tracking_uri)
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise TrackingError(
            f"{where}: the experiment {EXPERIMENT!r} is deleted; "
            f"restore it with: MLFLOW_TRACKING_URI={shlex.quote(where)} {restore}"
        )
    return found


def _experiment(client: MlflowClient, tracking_uri: str, store: str) -> str:
    found = _existing(client, tracking_uri)
    if found:
        return found.experiment_id
    if not tracking_uri.startswith("sqlite:"):
        return client.create_experiment(EXPERIMENT)  # a server knows where its artefacts go
    where = storage.join(store, MLFLOW_ARTIFACTS)
    return client.create_experiment(
        EXPERIMENT, where if storage.is_remote(store) else storage.local_path(where).absolute().as_uri()
    )


def _log_one(client: MlflowClient, experiment: str, record: Record, tags: Mapping[str, str]) -> str:
    run = _run(client, experiment, record)
    known = run.data.metrics
    now = int(time.time() * 1000)  # the latest value is the one that MLflow shows; at one time it shows the greatest
    metrics = [Metric(name, value, now, 0) for name, value in record.metrics.items() if known.get(name) != value]
    # MLflow does not allow a parameter to change: those of the run that filled the cells stay.
    params = [Param(k, str(v)[:_LONGEST_PARAM]) for k, v in record.params.items() if k not in run.data.params]
    changed = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
    client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=changed)
    with _folder(record.artifacts) as folder:
        client.log_artifacts(run.info.run_id, folder)
    client.set_terminated(run.info.run_id, "FINISHED")
    return run.info.run_id


def _run(client: MlflowClient, experiment: str, record: Record) -> Run:
    found = client.search_runs([experiment], f"tags.`{_IDENTITY}` = '{record.identity}'", max_results=1)
    return found[0] if found else client.create_run(experiment, run_name=record.name, tags={_IDENTITY: record.identity})


@contextmanager
def _folder(artifacts: Mapping[str, bytes]) -> Generator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in artifacts.items():
            Path(folder, name).write_bytes(content)
        yield folder
