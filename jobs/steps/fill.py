"""From a plan to committed cells: weights fetched, unfit models left out, the rest filled with progress to watch.

A run leaves a record in the store. One model's fault is reported and costs no other model. Results are committed cells;
reporting on them is each job's own step.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from jobs.console import signals
from jobs.console.progress import Meter, say
from jobs.steps import planning, preflight
from jobs.steps.planning import WalkConfig
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, plan_cells
from pipelines.cells.runs import RunRecorder, evaluation_id
from pipelines.walk.options import RunOptions

if TYPE_CHECKING:
    from pipelines.walk.filling import Outcome
    from pipelines.walk.gauges import Gauges
    from pipelines.walk.rounds import Progress

RUN = "the last run"
"""What failed where it was no shard and no model."""
_LONGEST_SAID = 300
"""An error of Ray's holds the whole traceback of a worker."""
_SECRETS = re.compile(r"(?<=//)\S*@|\?\S*")
"""In URLs: a user and a password, and queries, where signatures may stand. Others can read the store."""


def _walk(plan: Plan, config: WalkConfig) -> "Outcome":
    """Commit the cells that `plan` lacks, as far as they can be had.

    Raises:
        OSError: if the store cannot be written.
        ValueError: if the device is not there.
    """
    # Ray and torch take seconds to load; --help, --dry-run and a finished evaluation need neither.
    from pipelines.walk import filling
    from pipelines.walk.gauges import Gauges

    say(f"probed   {storage.probe(config.store)}")
    diary = RunRecorder(config.store, plan.dataset, config.data, config.limit, plan.pending)
    diary.note(columns=tuple(column.name for column in plan.columns))
    try:
        with Meter("cells", plan.pending, expected=_images_to_do(plan)) as meter:
            device = require_device(config.device, config.gpus, _about(plan, diary))
            options = RunOptions(device=device, gpus=config.gpus, max_bad_rate=config.max_bad_rate)
            tell = partial(_tell, meter, diary, Gauges(plan.dataset.name))
            outcome = filling.fill(config.store, plan, options, tell)
    except BaseException as error:
        diary.close("stopped", {RUN: _cause(error)})
        raise
    diary.close("unfinished" if outcome.plan.pending else "finished", reasons(outcome))
    say(meter.summary())
    return outcome


def require_device(device: str, gpus: int, about: Mapping[str, str] | None = None) -> str:
    """Start or join Ray, and see that models can run there.

    Args:
        device: on which: `cpu`, `cuda` or `auto`.
        gpus: that an autoscaler may be asked for.
        about: what Ray is to show of this job.

    Returns:
        `cpu` or `cuda`.

    Raises:
        ValueError: if they cannot.
    """
    from pipelines.cluster import connection
    from pipelines.cluster.shares import has_node
    from pipelines.walk import filling

    connection.connect(about)
    signals.heed()
    if gpus and connection.is_alone():
        raise ValueError(f"--gpus {gpus}: there is no cluster here that could start any; RAY_ADDRESS names one")
    device = filling.resolve_device(device, gpus)
    if not has_node(device):
        say(f"waiting  for a node with a {'CPU' if device == 'cpu' else 'GPU'}: the cluster has none yet")
    return device


def _about(plan: Plan, diary: RunRecorder) -> dict[str, str]:
    """What joins Ray's record of this job with ours: the run in the store, and what MLflow's runs are found by."""
    dataset = plan.dataset
    identities = [evaluation_id(column.name, dataset.name, dataset.digest) for column in plan.columns]
    return {"menagerie_run": diary.uri, "menagerie_identities": " ".join(identities)}


def _cause(error: BaseException) -> str:
    """What broke a run off, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {'SIGTERM' if signals.by_sigterm() else 'Ctrl-C'}"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return _SECRETS.sub("", said)[:_LONGEST_SAID]


def _tell(meter: Meter, diary: RunRecorder, gauges: "Gauges", progress: "Progress") -> None:
    bad = progress.bad.total()
    meter.update(progress.cells, progress.images, bad)
    diary.note(images=progress.images, bad=bad, cells=progress.cells, in_flight=progress.in_flight)
    diary.note(rate=meter.rate, remaining=meter.remaining)
    gauges.set(images=progress.images, bad_images=bad, images_per_second=meter.rate)
    gauges.set(cells_done=progress.cells, cells_to_do=meter.total - progress.cells)
    gauges.set(model_seconds=progress.model_seconds)


def _images_to_do(plan: Plan) -> int | None:
    """How many images the walk will decode, where manifests say it."""
    pending = {position for missing in plan.missing for position in missing}
    rows = [plan.dataset.shards[i].limit or plan.dataset.shards[i].rows for i in pending]
    return None if None in rows else sum(filter(None, rows))


def reasons(outcome: "Outcome") -> dict[str, str]:
    """Why cells are missing: by the shard's URI, the model's name, or `RUN` for what stopped all of them."""
    shards, columns = outcome.plan.dataset.shards, outcome.plan.columns
    failed = {shards[position].uri: reason for position, reason in sorted(outcome.failures.items())}
    if stopped := outcome.spoiled or (outcome.broken if outcome.plan.pending else None):
        failed[RUN] = stopped
    return failed | {columns[column].name: reason for column, reason in outcome.unusable.items()}


def run(plan: Plan, unusable: dict[str, str], config: WalkConfig, *, labelled: bool = True) -> "Outcome | None":
    """Fill the cells of the models whose weights are there, if any; adds to `unusable` what comes to light.

    Where the data is not `labelled`, or by others than the models, its labels need not be the models' classes.
    """
    unusable |= preflight.fetch_weights(plan, others=bool(unusable))
    part = plan_cells(config.store, plan.dataset, [column for column in plan.columns if is_usable(column, unusable)])
    if not part.pending:
        return None
    if told := preflight.unfit(part) if labelled else {}:
        unusable |= {planning.label(column, plan): told[column.name] for column in part.columns if column.name in told}
        part = plan_cells(config.store, plan.dataset, [column for column in part.columns if column.name not in told])
    outcome = _walk(part, config)
    unusable |= {planning.label(part.columns[i], part): reason for i, reason in outcome.unusable.items()}
    return outcome


def is_usable(column: Column, unusable: dict[str, str]) -> bool:
    """Whether no member of `column` is among the models that cannot be used."""
    return not any(member.card.name in unusable for member in column.members)
