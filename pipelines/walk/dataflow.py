"""The walk on Ray Data: shards -> chunks -> pixels -> scores.

The order of the steps and their shares of the cluster. Nothing is kept here: `filling` gathers and commits the scores.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import cast

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
from pipelines.walk.options import RunOptions
from pipelines.walk.passes import PassConfig, configure_pass

_MAX_SOURCES = 1024
"""Tables of shards that reading tasks take; more would only cost Ray time."""
_NODE_SECONDS = 600.0
"""Work that a GPU must have before an autoscaler is asked for it: a node takes minutes to start, and costs."""


def walk(
    columns: Sequence[Column], shards: Sequence[Shard], positions: Sequence[int], options: RunOptions
) -> Iterator[pa.Table]:
    """SCORES tables of the models of `columns` on `shards`, in the order in which they are done.

    Args:
        columns: the models with their settings; a table's `slot` is a position among them.
        shards: what to read.
        positions: the position of each shard in its dataset; column `shard` of a table.
        options: where models run; the device is resolved, not `auto`.
    """
    device = options.device
    if not options.gpus:
        await_node(device)
    cpus, gpus = resources()
    shares = share(cpus, max(gpus, options.gpus), device)
    config = configure_pass(columns, device, actor_memory(device))
    decoded = pixels(shards, positions, config.chunk, config.views, shares)
    scored = score(decoded, ScorerActor, config, shares, _count_actors(columns, shards, shares, config))
    found = scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    yield from cast(Iterable[pa.Table], found)  # as the format says


def pixels(
    shards: Sequence[Shard], positions: Sequence[int], chunk_size: int, views: Sequence[View], shares: Shares
) -> Dataset:
    """Decoded chunks (see `decoded.decoded_schema`) of the shards.

    Args:
        shards: what to read.
        positions: the position of each shard in its dataset.
        chunk_size: samples in a chunk.
        views: what each image is decoded to.
        shares: how the cluster is divided.
    """
    set_context()
    sources = ray.data.from_arrow(_sources(shards, positions))
    encoded = mapped(
        sources,
        partial(read.read_shards, batch_size=chunk_size),
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


def _count_actors(columns: Sequence[Column], shards: Sequence[Shard], shares: Shares, config: PassConfig) -> int:
    """Number of actors: all that fit; a GPU not yet started counts only if it has ten minutes of work."""
    most, chunks = shares.actors, _count_chunks(shards, config.chunk)
    if config.device == "cuda":
        worth = estimate.of_walk(columns, shards).gpu_seconds / _NODE_SECONDS
        most = min(most, max(1, int(resources()[1]), math.ceil(worth)))
    return most if chunks is None else min(most, chunks)


def score(pixels: Dataset, scorer: type, config: PassConfig, shares: Shares, actors: int) -> Dataset:
    """SCORES tables of decoded chunks.

    Args:
        pixels: decoded chunks.
        scorer: the class of the actors, made with `config`.
        config: what an actor runs.
        shares: how the cluster is divided.
        actors: number of actors.
    """
    return mapped(
        pixels,
        scorer,
        fn_constructor_args=(config,),
        compute=ActorPoolStrategy(size=actors),
        num_cpus=shares.actor_cpus,
        num_gpus=shares.actor_gpus,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )


class ScorerActor:
    """An actor's step: a `Scorer`, imported where it runs, since torch would take a driver a second to load."""

    def __init__(self, config: PassConfig) -> None:
        from pipelines.walk.scorer import Scorer

        self._scorer = Scorer(config)

    def __call__(self, decoded: pa.Table) -> Iterator[pa.Table]:
        """The scores of decoded chunks, as SCORES tables."""
        return self._scorer(decoded)


def _sources(shards: Sequence[Shard], positions: Sequence[int]) -> list[pa.Table | bytes]:
    """The shards as rows, one table per reading task."""
    table = read.shard_rows(shards, positions)
    step = -(-len(shards) // _MAX_SOURCES)
    return [table.slice(start, step) for start in range(0, len(shards), step)]


def _count_chunks(shards: Sequence[Shard], size: int) -> int | None:
    """How many chunks there are to score, None where a manifest is missing. More actors than chunks would be idle."""
    rows = [shard.limit or shard.rows for shard in shards]
    return None if None in rows else sum(-(-count // size) for count in rows if count)
