"""From a plan to committed cells: fetch the weights, leave out models that do not fit, fill the rest with progress.

Each run leaves a record in the store. A fault of one model is reported and does not affect the others. The results are
the committed cells; reporting on them is a step of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from jobs.console import signals
from jobs.console.progress import Meter, say
from jobs.steps import cluster, label_checks, preflight
from jobs.steps.first_rows import FirstRows
from jobs.steps.plan_summary import column_label
from jobs.steps.planning import PlannedRun
from pipelines import storage
from pipelines.cells.plan import Plan
from pipelines.cells.runs import RunRecorder, evaluation_id
from pipelines.messages import error_line
from pipelines.walk.options import RunOptions

if TYPE_CHECKING:
    from pipelines.walk.filling import Outcome
    from pipelines.walk.gauges import Gauges
    from pipelines.walk.rounds import Progress

RUN = "the last run"
"""The key of a failure that concerns the run as a whole, not a shard or a model. Runs of a store hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The run as it is after filling, and the outcome of the walk; None if there was nothing to compute."""

    planned: PlannedRun
    outcome: "Outcome | None"


def run(planned: PlannedRun, options: RunOptions, *, labelled: bool = True) -> Filled:
    """Fill the missing cells of every model that can be used.

    Args:
        planned: what is missing.
        options: the device, and when to give up.
        labelled: whether the labels of the data, if any, are classes of the models. A pool's need not be.

    Raises:
        FileNotFoundError: if no model's weights are available.
        ValueError: if the data or the device cannot be used.
        OSError: if the store cannot be written.
    """
    planned = planned.excluding(preflight.fetch_weights(planned.plan, bool(planned.unusable)))
    planned, part = checked(planned, options, labelled=labelled)
    if not part.pending:
        return Filled(planned=planned.refreshed(), outcome=None)
    rows = FirstRows(part, planned.models.evaluation_set, labelled)
    rows.look_at_cells(planned.store)
    outcome = _walk(part, planned, options, rows)
    planned = planned.excluding({column_label(part.columns[i], part): reason for i, reason in outcome.unusable.items()})
    return Filled(planned=planned.refreshed(), outcome=outcome)


def checked(planned: PlannedRun, options: RunOptions, *, labelled: bool = True) -> tuple[PlannedRun, Plan]:
    """The run without models that do not fit the data, and what they are to fill; samples of the data are read.

    Raises:
        ValueError: if the data cannot be used.
    """
    part = planned.plan_of(planned.usable_columns())
    if not part.pending:
        return planned, part
    probes = preflight.probed(part, options.max_bad_rate)
    unfit = label_checks.unfit(part, probes, planned.models.evaluation_set) if labelled else {}
    told = {column_label(column, planned.plan): unfit[column.name] for column in part.columns if column.name in unfit}
    fitting = [column for column in part.columns if column.name not in unfit]
    return planned.excluding(told), planned.plan_of(fitting) if unfit else part


def _walk(plan: Plan, planned: PlannedRun, options: RunOptions, rows: FirstRows) -> "Outcome":
    """Commit the cells that `plan`, a part of `planned`, lacks, and keep the record of the run."""
    # Ray and torch take seconds to load; --help, --dry-run and a finished evaluation need neither.
    from pipelines.walk import filling
    from pipelines.walk.gauges import Gauges

    say(f"probed   {storage.probe(planned.store)}")
    recorder = RunRecorder(planned.store, plan.dataset, planned.sources, planned.limit, plan.pending)
    recorder.note(columns=tuple(column.name for column in plan.columns))
    try:
        with Meter("cells", plan.pending, expected=_images_to_decode(plan)) as meter:
            device = cluster.require_device(options.device, options.gpus, _about(plan, recorder))
            report = partial(_report_progress, meter, recorder, Gauges(plan.dataset.name))
            outcome = filling.fill(planned.store, plan, replace(options, device=device), report, rows.look)
    except BaseException as error:
        recorder.close("stopped", {RUN: _cause_line(error)})
        raise
    recorder.close("unfinished" if outcome.plan.pending else "finished", failure_reasons(outcome))
    say(meter.summary())
    return outcome


def _about(plan: Plan, recorder: RunRecorder) -> dict[str, str]:
    """Metadata that ties Ray's record of this job to the run in the store and to the runs in MLflow."""
    dataset = plan.dataset
    identities = [evaluation_id(column.name, dataset.name, dataset.digest) for column in plan.columns]
    return {"menagerie_run": recorder.uri, "menagerie_identities": " ".join(identities)}


def _cause_line(error: BaseException) -> str:
    """Why a run stopped, in one line without secrets."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {'SIGTERM' if signals.by_sigterm() else 'Ctrl-C'}"
    return error_line(error)


def _report_progress(meter: Meter, recorder: RunRecorder, gauges: "Gauges", progress: "Progress") -> None:
    """Show `progress` on the console, in the run's record and in Ray's metrics."""
    bad = progress.bad.total()
    meter.update(progress.cells, progress.images, bad)
    recorder.note(images=progress.images, bad=bad, cells=progress.cells, in_flight=progress.in_flight)
    recorder.note(rate=meter.rate, remaining=meter.remaining)
    gauges.set(images=progress.images, bad_images=bad, images_per_second=meter.rate)
    gauges.set(cells_done=progress.cells, cells_to_do=meter.total - progress.cells)
    gauges.set(model_seconds=progress.model_seconds)


def _images_to_decode(plan: Plan) -> int | None:
    """How many images the walk will decode; None if a shard without a manifest is among them."""
    pending = {position for missing in plan.missing for position in missing}
    rows: Sequence[int | None] = [plan.dataset.shards[i].limit or plan.dataset.shards[i].rows for i in pending]
    return None if None in rows else sum(filter(None, rows))


def failure_reasons(outcome: "Outcome") -> dict[str, str]:
    """Why cells are missing: by the shard's URI, the model's name, or `RUN` for what stopped the run."""
    shards, columns = outcome.plan.dataset.shards, outcome.plan.columns
    failed = {shards[position].uri: reason for position, reason in sorted(outcome.failures.items())}
    if stopped := outcome.spoiled or (outcome.broken if outcome.plan.pending else None):
        failed[RUN] = stopped
    return failed | {columns[column].name: reason for column, reason in outcome.unusable.items()}
