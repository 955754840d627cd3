"""Validation within a training: the same steps and the same metrics as `jobs.evaluate` on the weights as they are.

Owns that every worker scores its part of the shards, and that counts are added up exactly. Refuses to lose an image:
one that cannot be read counts as wrong.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import pyarrow as pa
import torch.distributed as dist
from torch import Tensor, nn

from pipelines import storage
from pipelines.cluster.shares import Shares
from pipelines.evaluation import metrics
from pipelines.evaluation.metrics import Tally
from pipelines.models.engine import Engine
from pipelines.pixels.decoded import DecodedChunk, decoded_chunks
from pipelines.records import PLAIN, Dataset, View, cell_schema
from pipelines.training.batches import DataError
from pipelines.walk import dataflow
from pipelines.walk.scorer import rows_of
from zoo.cards import Card

_TOP = 5
_SHOWN = ("n", "errors", "top1", "top5", "nll", "ece")


def validate(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    card: Card,
    dataset: Dataset,
    part: tuple[int, int],
    shares: Shares,
) -> dict[str, float]:
    """What is told and tracked of a validation by all workers, each of which calls this with its own `part`.

    Args:
        network: see `tally`; so are the others.
        weights: see there.
        card: see there.
        dataset: see there.
        part: see there.
        shares: of the cluster, for all workers together.

    Raises:
        DataError: if a shard cannot be read, or no image has a label.
        UnavailableError: if its store is away.
    """
    readers = max(1, shares.readers // part[1])
    decoders = shares.decoders and max(1, shares.decoders // part[1])
    own = replace(shares, readers=readers, decoders=decoders)
    counted = tally(network, weights, card, dataset, part, own)
    everybodys = [counted]
    if part[1] > 1:
        everybodys = [None] * part[1]
        dist.all_gather_object(everybodys, counted)
    summed = metrics.summary(reduce(metrics.merge, (one for one in everybodys if one is not None)))
    if summed.top1 is None:
        raise DataError("--val: no image has a label")
    return {name: float(value) for name in _SHOWN if (value := getattr(summed, name)) is not None}


def tally(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    card: Card,
    dataset: Dataset,
    part: tuple[int, int],
    shares: Shares,
) -> Tally | None:
    """Counts of the shards that are a worker's: of `part` (rank, workers); None where it has none.

    Args:
        network: whose copy is evaluated.
        weights: of the copy.
        card: its preprocessing and number of classes.
        dataset: labelled shards.
        part: which worker of how many this is.
        shares: of the cluster.

    Raises:
        DataError: if a shard cannot be read.
        UnavailableError: if its store is away.
    """
    places = range(len(dataset.shards))[part[0] :: part[1]]
    if not places:
        return None
    device = next(network.parameters()).device
    evaluated = copy.deepcopy(network)
    evaluated.load_state_dict(weights)
    engine = Engine(evaluated, card.preprocessing, PLAIN, device, min(_TOP, card.num_classes))
    views = [View("exact", card.preprocessing.geometry)]
    shards = [dataset.shards[place] for place in places]
    decoded = dataflow.pixels(shards, places, PLAIN.batch_size, views, shares)
    tables: Iterable[Any] = decoded.iter_batches(batch_size=None, batch_format="pyarrow")
    chunks = (chunk for table in tables for chunk in decoded_chunks(table, views))
    return reduce(metrics.merge, (_counted(chunk, views[0], engine, card) for chunk in chunks))


def _counted(chunk: DecodedChunk, view: View, engine: Engine, card: Card) -> Tally:
    if chunk.failure is not None:
        raise (storage.UnavailableError if chunk.transient else DataError)(f"--val: {chunk.failure}")
    rows = rows_of(chunk, 0, engine.launch(chunk.pixels(view))(), chunk.errors(view))
    return metrics.tally(_as_cell(rows, min(_TOP, card.num_classes)), card.num_classes)


def _as_cell(rows: pa.Table, top: int) -> pa.Table:
    schema = cell_schema(top)
    return rows.select(schema.names).cast(schema)
