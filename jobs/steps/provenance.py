"""Provenance of a result (code, libraries), and logging it to MLflow.

If a tracking server is unavailable, a warning is printed; no result is lost, since results are committed and reported
before.
"""

import importlib.metadata
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.console import cli
from jobs.console.progress import count, say

if TYPE_CHECKING:
    from pipelines.cells.plan import Plan
    from pipelines.evaluation.evaluate import Evaluation
    from pipelines.evaluation.tracking import Record

_LIBRARIES = ("torch", "ray", "pyarrow", "numpy", "pillow")


def track(
    tracking_uri: str | None,
    store: str,
    plan: "Plan",
    evaluations: Sequence["Evaluation"],
    speeds: Mapping[str, float],
) -> None:
    """Log `evaluations` to MLflow; if it cannot be reached, print how to log them later.

    Args:
        tracking_uri: of MLflow; None for the store's default.
        store: holds the evaluated cells.
        plan: the evaluated plan.
        evaluations: one for each column.
        speeds: images per second by the column's name, where measured.
    """
    limit_mlflow_retries()
    from pipelines.evaluation import evaluate

    about = environment()
    records = [evaluate.record(plan, entry, about, speeds) for entry in evaluations]
    log(tracking_uri, store, records, "--retrack", evaluate.sweep(plan, evaluations, about))


def log(
    tracking_uri: str | None, store: str, records: "Sequence[Record]", again: str, sweep: "Record | None" = None
) -> None:
    """Log `records` to MLflow as children of `sweep`; if it cannot be reached, print how to log them later.

    Args:
        tracking_uri: of MLflow; None for the store's default.
        store: whose results the records hold.
        records: one for each run of MLflow.
        again: the option with which the same command logs them later; empty if it needs none.
        sweep: the parent run, if there is one.
    """
    limit_mlflow_retries()
    from pipelines.evaluation import tracking

    uri = tracking_uri or tracking.default_uri(store)
    try:
        tracking.log(uri, store, records, sweep)
    except tracking.TrackingError as error:
        say(f"warning: not logged to MLflow: {error}")
        say(f"         the results are complete; the same command{again and ' with '}{again} logs them")
        return
    hint = f"; see it with: mlflow ui --backend-store-uri {shlex.quote(uri)}" if uri.startswith("sqlite:") else ""
    say(f"mlflow   {count(len(records), 'run')} in experiment {tracking.EXPERIMENT!r}{hint}")


def limit_mlflow_retries() -> None:
    """Make MLflow's client give up soon on an unavailable server; the user's environment variables take precedence."""
    cli.set_environment_defaults(
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",  # by default a job waits four minutes for an unavailable server
        MLFLOW_HTTP_REQUEST_TIMEOUT="5",
        MLFLOW_DISABLE_TELEMETRY="true",
    )


def environment() -> dict[str, str]:
    """Versions of the libraries that can change a number, of Python, and the git commit."""
    versions = {f"{name}_version": importlib.metadata.version(name) for name in _LIBRARIES}
    return versions | {"python_version": platform.python_version(), "git_commit": _git_commit()}


def _git_commit() -> str:
    """The commit of this code; `unknown` if it was installed or shipped without its repository."""
    root = Path(__file__).parents[2]
    try:
        if _git(root, "rev-parse", "--show-toplevel") != str(root.resolve()):
            return "unknown"  # installed inside another project's repository
        return _git(root, "describe", "--always", "--dirty", "--abbrev=40")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()
