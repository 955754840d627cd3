"""Filling cells: the driver of walks, which commits what comes back.

Owns convergence by re-planning: rounds go on while there is hope. Refuses to keep results: only committed cells count,
whatever happened to the run that made them.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

import pyarrow as pa
import pyarrow.compute as pc
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError, RayTaskError

from pipelines.cells.plan import Plan, plan_cells
from pipelines.cluster.shares import NoDeviceError, resources, share
from pipelines.records import JUDGED_ERRORS, NON_FINITE
from pipelines.walk.dataflow import walk
from pipelines.walk.gather import Gather
from pipelines.walk.passes import split_passes
from pipelines.walk.publisher import Publisher
from pipelines.walk.rounds import ModelTimings, RoundFailures

_IDLE_ROUNDS = 2
"""Rounds in turn that commit nothing: the second is for what was over only after the first."""
_PAUSE_SECONDS = 15.0
"""Before a round after one that broke off: nodes that were lost are replaced, a store comes back."""
_JUDGED_IMAGES = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a walk is.

    `images` were scored in this run (once a pass, whatever the number of models), `bad` counts those that have an error
    instead of a score, by its kind; `cells` are committed, of `in_flight` others some rows are there. `model_seconds`
    is what all actors together have spent in models.
    """

    images: int = 0
    cells: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    model_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a walk left: the plan as it is now and pictures scored.

    `failures` says why shards failed, by position in the dataset; `unusable` why models could not be run, by their
    column; `broken` what broke the last round off, if anything; `spoiled` why the data was given up. `speeds` are
    images a second of one actor in the model alone, by column, of those that were run.
    """

    plan: Plan
    images: int
    failures: dict[int, str]
    unusable: dict[int, str]
    broken: str | None
    spoiled: str | None
    speeds: dict[int, float]


_PASSING = (RayError, ExecutionTimeoutError, OSError, NoDeviceError)
"""What breaks a round off and may be over in the next."""


class _SpoiledError(Exception):
    """Too many pictures are bad."""


def fill(
    store: str,
    plan: Plan,
    device: str,
    watch: Callable[[Progress], None],
    max_bad_rate: float = 1.0,
    gpus: int = 0,
) -> Outcome:
    """Commit the cells that `plan` lacks; rounds go on until none is pending or two in turn commit nothing.

    A lost node, a killed worker or a store that refuses for a while costs the cells in flight, and the next round fills
    them: nothing else is needed.

    Args:
        store: where the cells go.
        plan: what is missing.
        device: `cpu`, `cuda`, or `auto`: GPUs where the cluster has any.
        watch: told of the progress after each block.
        max_bad_rate: the share of pictures that may be bad; judged from the first thousand on.
        gpus: that an autoscaler may be asked for.

    Raises:
        ValueError: if `device` is not there.
    """
    done = Progress()
    trouble, clock, spoiled, idle = RoundFailures(most=len(plan.columns)), ModelTimings(), None, 0
    walker = resolve_device(device, gpus)
    _require_tf32(plan, walker)
    while (before := len(trouble.fillable(plan))) and idle < _IDLE_ROUNDS and not spoiled:
        trouble.begin()
        try:
            for progress in _round(store, plan, (walker, gpus), done, (trouble, clock)):
                done = progress
                watch(done)
                _require_good(done, max_bad_rate)
        except _SpoiledError as error:
            spoiled = str(error)
        try:
            plan = plan_cells(store, plan.dataset, plan.columns)
        except OSError as error:
            trouble.broken = _said(error)
        left = len(trouble.fillable(plan))
        idle = idle + 1 if left == before and not trouble.part() else 0
        if trouble.broken and left and idle < _IDLE_ROUNDS and not spoiled:
            time.sleep(_PAUSE_SECONDS)
    failures, unusable = trouble.failed(plan), trouble.unusable | trouble.lacking(plan)
    return Outcome(plan, done.images, failures, unusable, trouble.broken, spoiled, clock.speeds())


def _said(error: Exception) -> str:
    """In one line: of what a task of Ray raised the last one says it, below the traceback."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1 if isinstance(error, RayTaskError) else 0]}"


def _require_good(done: Progress, max_bad_rate: float) -> None:
    if done.bad.total() > max(max_bad_rate * max(done.images, _JUDGED_IMAGES), JUDGED_ERRORS - 1):
        reasons = ", ".join(f"{number} {reason}" for reason, number in done.bad.most_common())
        raise _SpoiledError(f"{done.bad.total()} of the first {done.images} images are bad: {reasons}")


def resolve_device(device: str, gpus: int = 0) -> str:
    """`cpu` or `cuda`: what `auto` means on this cluster, where an autoscaler may be asked for so many GPUs.

    Raises:
        ValueError: if `device` is not there.
    """
    cpus, there = resources()
    most = max(there, gpus)
    chosen = device if device != "auto" else "cuda" if most >= 1 else "cpu"
    try:
        share(cpus, most, chosen)  # raises here, before a walk begins
    except NoDeviceError as error:
        raise NoDeviceError(f"{error}; --gpus N has an autoscaler start some") from None
    return chosen


def _require_tf32(plan: Plan, device: str) -> None:
    members = [member for column in plan.columns for member in column.members]
    if device == "cpu" and any(member.settings.precision == "tf32" for member in members):
        raise ValueError("--precision tf32: that is GPUs' own; on a CPU choose from fp32, bf16, fp16")


def _round(
    store: str, plan: Plan, where: tuple[str, int], done: Progress, notes: tuple[RoundFailures, ModelTimings]
) -> Iterator[Progress]:
    """One attempt at every pending cell; adds to `notes`, yields the progress from `done` on.

    A pass that breaks off does not keep the others from being tried.
    """
    trouble, _ = notes
    for models, positions in split_passes(trouble.fillable(plan), trouble.most):
        try:
            for progress in _pass(store, plan, (models, positions, where), done, notes):
                done = progress
                yield done
        except _PASSING as error:
            trouble.broken, trouble.killed = _said(error), isinstance(error, RayError)
            if len(models) == 1 and len(plan.columns) > 1:
                trouble.absent[models[0]] = f"run alone, its pass broke off: {trouble.broken}"


def _pass(
    store: str,
    plan: Plan,
    what: tuple[tuple[int, ...], tuple[int, ...], tuple[str, int]],
    done: Progress,
    notes: tuple[RoundFailures, ModelTimings],
) -> Iterator[Progress]:
    """Walk models over shards, by their positions, on a device with as many GPUs as may be asked for."""
    (models, positions, where), (trouble, clock) = what, notes
    columns, shards = [plan.columns[i] for i in models], [plan.dataset.shards[i] for i in positions]
    gather, committed = Gather(trouble.failures, trouble.away), done.cells
    with Publisher(store, plan.dataset, trouble.conflicts) as publisher:
        for scores in walk(columns, shards, positions, *where):
            publisher.put(columns, gather.add(scores))
            clock.add(models, scores)
            images, bad = _pictures(scores, gather.unusable | gather.absent)
            counts = done.images + images, committed + publisher.done, done.bad + bad, gather.begun
            done = Progress(*counts, sum(clock.seconds.values()))
            trouble.unusable.update((models[model], reason) for model, reason in gather.unusable.items())
            trouble.absent.update((models[model], reason) for model, reason in gather.absent.items())
            yield done
    yield replace(done, cells=committed + publisher.done)


def _pictures(scores: pa.Table, unusable: Mapping[int, str]) -> tuple[int, Counter[str]]:
    """Pictures in `scores`, and bad ones: rows of the first model that was loaded, so that each counts once."""
    first = next(model for model in count() if model not in unusable)
    rows = scores.filter((pc.field("model") == first) & (pc.field("index") >= 0))
    reasons = Counter(error.partition(": ")[0] for error in rows["error"].drop_null().to_pylist())
    del reasons[NON_FINITE]  # that is the model's fault, and no other's
    return len(rows), reasons
