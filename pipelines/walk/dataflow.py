"""The walk on Ray Data: shards -> chunks -> pixels -> scores.

Owns the order of the steps and their shares of the cluster. Keeps nothing: what comes out is gathered and committed by
`flow`.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from pipelines.cells.column import Column
from pipelines.cluster.ray_data import RETRIES, mapped, set_context
from pipelines.cluster.shares import Shares, actor_memory, await_node, resources, share
from pipelines.data import read
from pipelines.pixels.decode import decode_chunks
from pipelines.records import Shard, View
from pipelines.walk import estimate
from pipelines.walk.passes import PassConfig, configure_pass

_MOST_SOURCES = 1024


_NODE_SECONDS = 600.0
"""Of work that a GPU must have before an autoscaler is asked for it: a node takes minutes to start, and costs."""


def walk(
    columns: Sequence[Column], shards: Sequence[Shard], positions: Sequence[int], device: str, gpus: int = 0
) -> Iterator[pa.Table]:
    """SCORES tables of the models of `columns` on `shards`, in the order in which they are done.

    Args:
        columns: the models with their settings; a table's `model` is a position among them.
        shards: what to read.
        positions: where the shards stand in their dataset, a table's `shard`.
        device: `cpu` or `cuda`.
        gpus: that an autoscaler may be asked for.
    """
    if not gpus:
        await_node(device)
    cpus, there = resources()
    shares = share(cpus, max(there, gpus), device)
    scorer = configure_pass(columns, device, actor_memory(device))
    decoded = pixels(shards, positions, scorer.chunk, scorer.views, shares)
    scored = score(decoded, ScorerActor, scorer, shares, _actors(columns, shards, shares, scorer))
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def pixels(
    shards: Sequence[Shard], positions: Sequence[int], chunk: int, views: Sequence[View], shares: Shares
) -> Dataset:
    """Decoded chunks (see `decode.decoded_schema`) of so many samples, of the shards at these positions."""
    set_context()
    sources = ray.data.from_arrow(_sources(shards, positions))
    encoded = mapped(
        sources,
        partial(read.read_shards, batch_size=chunk),
        compute=TaskPoolStrategy(size=shares.readers),
        num_cpus=shares.read_cpus,
        max_retries=RETRIES,
    )
    return mapped(
        encoded,
        partial(decode_chunks, views=views),
        compute=TaskPoolStrategy(size=shares.decoders),
        num_cpus=shares.decode_cpus,
        max_retries=RETRIES,
    )


def _actors(columns: Sequence[Column], shards: Sequence[Shard], shares: Shares, scorer: PassConfig) -> int:
    """As many as there is room for; of GPUs that would have to be started only those that have enough to do."""
    most, chunks = shares.actors, _chunks(shards, scorer.chunk)
    if scorer.device == "cuda":
        worth = estimate.of_walk(columns, shards).gpu_seconds / _NODE_SECONDS
        most = min(most, max(1, int(resources()[1]), math.ceil(worth)))
    return most if chunks is None else min(most, chunks)


def score(pixels: Dataset, scoring: type, scorer: PassConfig, shares: Shares, actors: int) -> Dataset:
    """SCORES tables of decoded chunks, by so many actors of the class `scoring`."""
    return mapped(
        pixels,
        scoring,
        fn_constructor_args=(scorer,),
        compute=ActorPoolStrategy(size=actors),
        num_cpus=shares.actor_cpus,
        num_gpus=shares.actor_gpus,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )


class ScorerActor:
    """The actor's step: a `Scorer`, which is imported where it runs, since torch takes a driver a second to load."""

    def __init__(self, config: PassConfig) -> None:
        from pipelines.walk.scorer import Scorer

        self._scorer = Scorer(config)

    def __call__(self, decoded: pa.Table) -> Iterator[pa.Table]:
        """Rows of scores, as SCORES tables."""
        return self._scorer(decoded)


def _sources(shards: Sequence[Shard], positions: Sequence[int]) -> list[pa.Table]:
    """The shards as rows, in as many tables as there are to be reading tasks."""
    table = read.shard_rows(shards, positions)
    step = -(-len(shards) // _MOST_SOURCES)
    return [table.slice(start, step) for start in range(0, len(shards), step)]


def _chunks(shards: Sequence[Shard], size: int) -> int | None:
    """How many chunks there are to score, where manifests say it: more actors than that would only start."""
    rows = [shard.limit or shard.rows for shard in shards]
    return None if None in rows else sum(-(-count // size) for count in rows if count)
