"""Validation within a training: the steps and metrics of `jobs.evaluate`, on the weights as they are now.

Each worker scores its own part of the shards, and the exact counts are added up. No image is left out: one that cannot
be read counts as wrong.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

import pyarrow as pa
import torch.distributed as dist
from torch import nn

from pipelines import storage
from pipelines.cluster.shares import Shares
from pipelines.evaluation import metrics
from pipelines.evaluation.metrics import Tally
from pipelines.models.engine import Engine
from pipelines.pixels.decoded import DecodedChunk, decoded_chunks
from pipelines.records import PLAIN, Dataset, View, cell_schema
from pipelines.training.learner import Learner
from pipelines.training.sampling.batches import DataError
from pipelines.walk import dataflow
from pipelines.walk.scorer import rows_of
from zoo.cards import Card

_TOP = 5
_REPORTED = ("n", "errors", "top1", "top5", "nll", "ece")


def validate(
    learner: Learner, card: Card, dataset: Dataset, shares: Shares, rank: int, world_size: int
) -> dict[str, float]:
    """The metrics of all workers together; every worker calls this with its own `rank`.

    Args:
        learner: whose weights are validated.
        card: its preprocessing and number of classes.
        dataset: labelled shards.
        shares: of the cluster, for all workers together.
        rank: of this worker.
        world_size: the number of workers.

    Returns:
        n and errors as counts, top1 and top5 in percent, ece as a share from 0 to 1, nll in nats.

    Raises:
        DataError: if a shard cannot be read, or no image has a label.
        UnavailableError: if the store of the shards is unavailable.
    """
    network = copy.deepcopy(learner.network)
    network.load_state_dict(learner.weights())
    readers = max(1, shares.readers // world_size)
    decoders = shares.decoders and max(1, shares.decoders // world_size)
    own = tally(network, card, dataset, replace(shares, readers=readers, decoders=decoders), rank, world_size)
    tallies: list[Tally | None] = [own]
    if world_size > 1:
        tallies = [None] * world_size
        dist.all_gather_object(tallies, own)
    summary = metrics.summary(reduce(metrics.merge, (one for one in tallies if one is not None)))
    if summary.top1 is None:
        raise DataError("--val: no image has a label")
    return {name: float(value) for name in _REPORTED if (value := getattr(summary, name)) is not None}


def tally(network: nn.Module, card: Card, dataset: Dataset, shares: Shares, rank: int, world_size: int) -> Tally | None:
    """The counts of every `world_size`-th shard from shard `rank` on; None if there is no such shard.

    Args:
        network: in the state to evaluate; it is put into evaluation mode.
        card: its preprocessing and number of classes.
        dataset: labelled shards.
        shares: of the cluster, for this worker.
        rank: of this worker.
        world_size: the number of workers.

    Raises:
        DataError: if a shard cannot be read.
        UnavailableError: if the store of the shards is unavailable.
    """
    indices = range(len(dataset.shards))[rank::world_size]
    if not indices:
        return None
    device = next(network.parameters()).device
    engine = Engine(network, card.preprocessing, PLAIN, device, min(_TOP, card.num_classes))
    views = [View("exact", card.preprocessing.geometry)]
    shards = [dataset.shards[index] for index in indices]
    decoded = dataflow.pixels(shards, indices, PLAIN.batch_size, views, shares)
    tables: Iterable[Any] = decoded.iter_batches(batch_size=None, batch_format="pyarrow")
    chunks = (chunk for table in tables for chunk in decoded_chunks(table, views))
    return reduce(metrics.merge, (_chunk_tally(chunk, views[0], engine, card) for chunk in chunks))


def _chunk_tally(chunk: DecodedChunk, view: View, engine: Engine, card: Card) -> Tally:
    if chunk.failure is not None:
        raise (storage.UnavailableError if chunk.transient else DataError)(f"--val: {chunk.failure}")
    rows = rows_of(chunk, 0, engine.launch(chunk.pixels(view))(), chunk.errors(view))
    return metrics.tally(_as_cell(rows, min(_TOP, card.num_classes)), card.num_classes)


def _as_cell(rows: pa.Table, top: int) -> pa.Table:
    schema = cell_schema(top)
    return rows.select(schema.names).cast(schema)
