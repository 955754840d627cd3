"""Where a result comes from (code, libraries), and handing it to MLflow.

Owns the patience with a tracking server that is away. Refuses to let it cost a result: what was computed is committed
and reported before this module is called.
"""

import importlib.metadata
import platform
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
    """Log `evaluations`; where MLflow cannot be reached, say so and how to log them later."""
    be_brief()
    from pipelines.evaluation import evaluate

    about = environment()
    records = [evaluate.record(plan, entry, about, speeds) for entry in evaluations]
    log(tracking_uri, store, records, "--retrack", evaluate.sweep(plan, evaluations, about))


def log(
    tracking_uri: str | None, store: str, records: "Sequence[Record]", again: str, sweep: "Record | None" = None
) -> None:
    """Hand `records` to MLflow, below `sweep`; where it cannot be reached, say so and that `again` logs them later."""
    be_brief()
    from pipelines.evaluation import tracking

    uri = tracking_uri or tracking.default_uri(store)
    try:
        tracking.log(uri, store, records, sweep)
    except tracking.TrackingError as error:
        say(f"warning: not logged to MLflow: {error}")
        say(f"         the results are complete; the same command{again and ' with '}{again} logs them")
        return
    hint = f"; see it with: mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else ""
    say(f"mlflow   {count(len(records), 'run')} in experiment {tracking.EXPERIMENT!r}{hint}")


def be_brief() -> None:
    """Have MLflow's client give up soon on a server that is away; what the user's environment says stands."""
    cli.set_environment_defaults(
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",  # the default holds a job for four minutes when the server is away
        MLFLOW_HTTP_REQUEST_TIMEOUT="5",
        MLFLOW_DISABLE_TELEMETRY="true",
    )


def environment() -> dict[str, str]:
    """Versions of what can change a number, and the git commit where there is one."""
    versions = {f"{name}_version": importlib.metadata.version(name) for name in _LIBRARIES}
    return versions | {"python_version": platform.python_version(), "git_commit": _git_commit()}


def _git_commit() -> str:
    """The commit of this code, `unknown` where it was installed or shipped without its repository."""
    root = Path(__file__).parents[2]
    try:
        if _git(root, "rev-parse", "--show-toplevel") != str(root.resolve()):
            return "unknown"  # installed below a repository of somebody else's
        return _git(root, "describe", "--always", "--dirty", "--abbrev=40")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()
