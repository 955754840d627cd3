"""Filling cells: rounds of passes that commit what is missing, until nothing is or nothing more can be done.

Results are not kept in memory. Only committed cells count, whatever happened to the run that made them: each round
plans anew from what the store holds.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError, RayTaskError

from pipelines.cells.plan import Plan, plan_cells
from pipelines.cluster.shares import NoDeviceError, resources, share
from pipelines.data.bad_rate import is_too_high_so_far
from pipelines.messages import one_line
from pipelines.models.precision import require_precision
from pipelines.walk.dataflow import walk
from pipelines.walk.failures import NON_FINITE, SCORED
from pipelines.walk.gather import Gather
from pipelines.walk.options import RunOptions
from pipelines.walk.passes import PassPlan, split_passes
from pipelines.walk.publisher import Publisher
from pipelines.walk.rounds import Progress, RoundState

_IDLE_ROUNDS = 2
"""Rounds in succession that commit nothing; the second is for what recovered only after the first."""
_PASSING = (RayError, ExecutionTimeoutError, OSError, NoDeviceError)
"""What interrupts a pass and may be over by the next round."""


Look = Callable[[Sequence[int], pa.Table], None]
"""What is called with the columns of the plan that a pass runs, by slot, and a SCORES table of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left.

    Attributes:
        plan: with the cells that are still missing.
        images: scored in this run.
        failures: why shards failed, by position in the dataset.
        unusable: why models could not be run, by column of the plan.
        broken: what interrupted the last round, if anything did.
        spoiled: why the data was given up, if it was.
        speeds: images a second of one actor in the model alone, by column of the plan.
    """

    plan: Plan
    images: int
    failures: dict[int, str]
    unusable: dict[int, str]
    broken: str | None
    spoiled: str | None
    speeds: dict[int, float]


class _SpoiledError(Exception):
    """Too many images are bad."""


def fill(
    store: str,
    plan: Plan,
    options: RunOptions,
    watch: Callable[[Progress], None],
    look: Look = lambda *_: None,
) -> Outcome:
    """Commit the cells that `plan` lacks; rounds go on until none is missing or two in succession commit nothing.

    A lost node, a killed worker or a store that is unavailable for a while costs the cells in flight, and the next
    round fills them: nothing else is needed.

    Args:
        store: where the cells go.
        plan: what is missing.
        options: where models run, and how many images may be bad.
        watch: called with the progress after each block of scores.
        look: called with each block of scores; what it raises ends the run.

    Raises:
        ValueError: if the device is not there, or lacks a precision of the plan.
    """
    options = replace(options, device=resolve_device(options.device, options.gpus))
    _require_precisions(plan, options.device)
    state, spoiled, idle = RoundState(models_per_pass=len(plan.columns)), None, 0
    failures = state.failures
    while (before := failures.fillable(plan).pending) and idle < _IDLE_ROUNDS and not spoiled:
        failures.begin_round()
        try:
            for progress in _round(store, plan, options, state, look):
                watch(progress)
                _require_good(progress, options.max_bad_rate)
        except _SpoiledError as error:
            spoiled = str(error)
        try:
            plan = plan_cells(store, plan.dataset, plan.columns)
        except OSError as error:
            failures.interruption = _reason(error)
        left = failures.fillable(plan).pending
        idle = idle + 1 if left == before and not state.split_models() else 0
        if failures.interruption and left and idle < _IDLE_ROUNDS and not spoiled:
            time.sleep(options.pause_seconds)
    return Outcome(
        plan=plan,
        images=state.progress.images,
        failures=failures.of_shards(plan),
        unusable=failures.of_models(plan),
        broken=failures.interruption,
        spoiled=spoiled,
        speeds=state.timings.speeds(),
    )


def _reason(error: Exception) -> str:
    """The first line of an error's message; of a Ray task's the last, below the traceback."""
    lines = str(error).strip().splitlines() or [""]
    return one_line(f"{type(error).__name__}: {lines[-1 if isinstance(error, RayTaskError) else 0]}")


def _require_good(progress: Progress, max_bad_rate: float) -> None:
    bad = progress.bad.total()
    if is_too_high_so_far(bad, progress.images, max_bad_rate):
        reasons = ", ".join(f"{number} {reason}" for reason, number in progress.bad.most_common())
        raise _SpoiledError(f"{bad} of the first {progress.images} images are bad: {reasons}")


def resolve_device(device: str, gpus: int = 0) -> str:
    """`cpu` or `cuda`: what `auto` means on this cluster, where an autoscaler may be asked for `gpus` GPUs.

    Raises:
        ValueError: if `device` is not there.
    """
    cpus, present = resources()
    most = max(present, gpus)
    chosen = device if device != "auto" else "cuda" if most >= 1 else "cpu"
    try:
        share(cpus, most, chosen)  # raises here, before a walk begins
    except NoDeviceError as error:
        raise NoDeviceError(f"{error}; --gpus N has an autoscaler start some") from None
    return chosen


def _require_precisions(plan: Plan, device: str) -> None:
    for column in plan.columns:
        for member in column.members:
            require_precision(member.settings.precision, device)


def _round(store: str, plan: Plan, options: RunOptions, state: RoundState, look: Look) -> Iterator[Progress]:
    """One attempt at every missing cell. An interrupted pass does not keep the others from being tried."""
    failures = state.failures
    for part in split_passes(failures.fillable(plan), state.models_per_pass):
        try:
            yield from _pass(store, plan, part, options, state, look)
        except _PASSING as error:
            failures.interruption, failures.workers_died = _reason(error), isinstance(error, RayError)
            if len(part.columns) == 1 and len(plan.columns) > 1:
                reason = f"run alone, its pass broke off: {failures.interruption}"
                failures.absent_models[part.columns[0]] = reason


def _pass(
    store: str, plan: Plan, part: PassPlan, options: RunOptions, state: RoundState, look: Look
) -> Iterator[Progress]:
    """Run the models of one pass over its shards and commit the cells."""
    columns = [plan.columns[column] for column in part.columns]
    shards = [plan.dataset.shards[position] for position in part.shards]
    failures, committed = state.failures, state.progress.cells
    gather = Gather(failed_shards=failures.failed_shards, absent_shards=failures.absent_shards)
    with Publisher(store, plan.dataset, failures.conflicts) as publisher:
        for scores in walk(columns, shards, part.shards, options):
            publisher.put(columns, gather.add(scores))
            look(part.columns, scores)
            state.timings.add(part.columns, scores)
            images, bad = _count_images(scores, gather)
            state.progress = Progress(
                images=state.progress.images + images,
                cells=committed + publisher.done,
                bad=state.progress.bad + bad,
                in_flight=gather.begun,
                model_seconds=sum(state.timings.seconds.values()),
            )
            failures.failed_models.update(part.by_column(gather.failed_models))
            failures.absent_models.update(part.by_column(gather.absent_models))
            yield state.progress
    state.progress = replace(state.progress, cells=committed + publisher.done)
    yield state.progress


def _count_images(scores: pa.Table, gather: Gather) -> tuple[int, Counter[str]]:
    """Images in `scores`, and the bad ones by reason: rows of the first model that runs, so that each counts once."""
    without = gather.failed_models.keys() | gather.absent_models.keys()
    first = next(slot for slot in count() if slot not in without)
    rows = scores.filter((pc.field("slot") == first) & (pc.field("kind") == SCORED))
    errors = cast(list[str], rows["error"].drop_null().to_pylist())
    reasons = Counter(error.partition(": ")[0] for error in errors)
    del reasons[NON_FINITE]  # the fault of this model alone
    return len(rows), reasons
