"""Filling cells: Ray Data from shards to scorers, and the driver that commits what comes back.

Owns the order of the walk (read, decode, score, commit) and its convergence by re-planning. Refuses to keep results:
only committed cells count, whatever happened to the run that made them.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from pipelines import cells, read
from pipelines.cells import Gather, Plan
from pipelines.cluster import Shares, resources, share
from pipelines.decode import decode_chunks
from pipelines.records import Shard
from pipelines.score import Scorer, ScorerConfig

_MOST_SOURCES = 1024
_BLOCK_BYTES = 1 << 20
"""Less than a chunk of pictures, so that each is a block of its own and is decoded as soon as it is read."""
_RETRIES = 3
"""Ray Data's default is to retry for ever, and a picture that kills its worker would do so for ever."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a walk is: pictures scored in this run (each once, whatever the number of models), cells committed."""

    images: int
    cells: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a walk left: the plan as it is now and pictures scored.

    `failures` says why shards failed, by position in the dataset; `unusable` why models could not be loaded, by their
    column; `broken` what broke the last round off, if anything.
    """

    plan: Plan
    images: int
    failures: dict[int, str]
    unusable: dict[int, str]
    broken: str | None


@dataclass(slots=True)
class _Trouble:
    """What rounds meet, with the reasons.

    `failures` are of shards, `absent` of models whose weights some scorer could not get: both may be over by the next
    round, and are known anew in each. `conflicts` are of cells that stand with other bytes, `unusable` of models whose
    weights are wrong: those stay.
    """

    failures: dict[int, str] = field(default_factory=dict)
    absent: dict[int, str] = field(default_factory=dict)
    conflicts: dict[int, str] = field(default_factory=dict)
    unusable: dict[int, str] = field(default_factory=dict)

    def pending(self, plan: Plan) -> int:
        """Cells that are not committed and can be filled."""
        return sum(len(missing) for column, missing in enumerate(plan.missing) if column not in self.unusable)


def fill(store: str, plan: Plan, device: str, watch: Callable[[Progress], None]) -> Outcome:
    """Commit the cells that `plan` lacks; rounds go on until none is pending or a round commits nothing.

    A lost node, a killed worker or a store that refuses for a while costs the cells in flight, and the next round fills
    them: nothing else is needed.

    Args:
        store: where the cells go.
        plan: what is missing; all of its columns have one precision and batch size.
        device: `cpu`, `cuda`, or `auto`: GPUs where the cluster has any.
        watch: told of the progress after each block.

    Raises:
        ValueError: if `device` is not there.
    """
    done = Progress(0, 0)
    trouble, broken = _Trouble(), None
    walker = _device(device)
    while before := trouble.pending(plan):
        trouble.failures, trouble.absent, broken = {}, {}, None
        try:
            for progress in _round(store, plan, walker, done, trouble):
                done = progress
                watch(done)
        except (RayError, ExecutionTimeoutError, OSError) as error:
            broken = f"{type(error).__name__}: {error}"
        plan = cells.plan(store, plan.dataset, plan.columns)
        if trouble.pending(plan) == before:
            break
    return Outcome(plan, done.images, trouble.failures | trouble.conflicts, trouble.unusable | trouble.absent, broken)


def _device(device: str) -> str:
    gpus = resources()[1]
    chosen = device if device != "auto" else "cuda" if gpus >= 1 else "cpu"
    share(*resources(), chosen)  # raises here, before a walk begins
    return chosen


def _round(store: str, plan: Plan, device: str, before: Progress, trouble: _Trouble) -> Iterator[Progress]:
    """One attempt at every pending cell; adds to `trouble`, yields the progress since `before`."""
    images, committed = before.images, before.cells
    for models, positions in _passes(plan, trouble.unusable):
        gather = Gather(trouble.failures)
        for scores in _walk(plan, models, positions, device):
            for model, shard, rows in gather.add(scores):
                trouble.conflicts.update(_commit(store, plan, models[model], shard, rows))
                committed += 1
            trouble.unusable.update((models[model], reason) for model, reason in gather.unusable.items())
            trouble.absent.update((models[model], reason) for model, reason in gather.absent.items())
            images += _pictures(scores, gather.unusable | gather.absent)
            yield Progress(images, committed)


def _commit(store: str, plan: Plan, model: int, shard: int, rows: pa.Table) -> dict[int, str]:
    """Publish a cell; where another job's stands with other bytes (another kind of device), that one and the reason."""
    try:
        cells.publish(store, plan.dataset, plan.columns[model], plan.dataset.shards[shard], rows)
    except FileExistsError as error:
        return {shard: str(error)}
    return {}


def _pictures(scores: pa.Table, unusable: Mapping[int, str]) -> int:
    """Rows of the first model that was loaded: each picture once, and not the rows that stand for a failure."""
    first = next(model for model in count() if model not in unusable)
    return len(scores.filter((pc.field("model") == first) & (pc.field("index") >= 0)))


def _passes(plan: Plan, unusable: Mapping[int, str]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(Models, shards) to walk together: shards that lack the cells of the same models."""
    lacking: dict[int, list[int]] = defaultdict(list)
    for model, positions in enumerate(plan.missing):
        for position in positions if model not in unusable else ():
            lacking[position].append(model)
    passes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position in sorted(lacking):
        passes[tuple(lacking[position])].append(position)
    return [(models, tuple(positions)) for models, positions in passes.items()]


def _walk(plan: Plan, models: tuple[int, ...], positions: tuple[int, ...], device: str) -> Iterator[pa.Table]:
    """SCORES tables of `models` on the shards at `positions`, in the order in which they are done."""
    columns = [plan.columns[model] for model in models]
    shards = [plan.dataset.shards[position] for position in positions]
    precision, batch_size = columns[0].precision, columns[0].batch_size
    assert all((c.precision, c.batch_size) == (precision, batch_size) for c in columns), "one plan, one setting"
    scorer = ScorerConfig(
        cards=tuple(column.card for column in columns),
        files=tuple(column.file for column in columns),
        geometries=tuple(sorted({column.card.preprocessing.geometry for column in columns})),
        batch_size=batch_size,
        top=max(column.top for column in columns),
        precision=precision,
        device=device,
    )
    _set_context()
    shares = share(*resources(), device)
    scored = _score(_pixels(shards, positions, scorer, shares), scorer, shares, _batches(shards, batch_size))
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def _pixels(shards: Sequence[Shard], positions: Sequence[int], scorer: ScorerConfig, shares: Shares) -> Dataset:
    sources = ray.data.from_arrow(_sources(shards, positions))
    encoded = _map(
        sources,
        partial(read.read_shards, batch_size=scorer.batch_size),
        compute=TaskPoolStrategy(size=shares.readers),
        num_cpus=shares.read_cpus,
        max_retries=_RETRIES,
    )
    return _map(
        encoded,
        partial(decode_chunks, geometries=scorer.geometries),
        num_cpus=shares.decode_cpus,
        max_retries=_RETRIES,
    )


def _score(pixels: Dataset, scorer: ScorerConfig, shares: Shares, batches: int | None) -> Dataset:
    actors = shares.actors if batches is None else min(shares.actors, batches)
    return _map(
        pixels,
        Scorer,
        fn_constructor_args=(scorer,),
        compute=ActorPoolStrategy(size=actors),
        num_cpus=shares.actor_cpus,
        num_gpus=shares.actor_gpus,
        max_restarts=_RETRIES,
        max_task_retries=_RETRIES,
    )


def _map(dataset: Dataset, step: Callable[..., object], **options: object) -> Dataset:
    """A step of the walk over Arrow tables of one row."""
    with warnings.catch_warnings():
        # Ray 2.60 wants no free remote arguments from 2.64 on, and has no other way yet to bound retries.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return dataset.map_batches(step, batch_size=1, batch_format="pyarrow", **options)  # pyright: ignore


def _sources(shards: Sequence[Shard], positions: Sequence[int]) -> list[pa.Table]:
    """The shards as rows, in as many tables as there are to be reading tasks."""
    table = read.shard_rows(shards, positions)
    step = -(-len(shards) // _MOST_SOURCES)
    return [table.slice(start, step) for start in range(0, len(shards), step)]


def _batches(shards: Sequence[Shard], batch_size: int) -> int | None:
    """How many batches there are to score, where manifests say it: more actors than that would only start."""
    rows = [shard.limit or shard.rows for shard in shards]
    return None if None in rows else sum(-(-count // batch_size) for count in rows if count)


def _set_context() -> None:
    context = DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Of a dataset without manifest nobody knows that it is smaller than the actors are many; it costs only their start.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
