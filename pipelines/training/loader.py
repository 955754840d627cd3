"""What a worker of a training is fed: portions of samples, read and decoded by Ray Data beside the training.

Owns the shares of the cluster that this takes, and how far it may run ahead. Refuses to choose: which sample comes when
is `order`'s, what a batch is, `portions`'.
"""

from collections.abc import Generator, Iterator
from functools import partial
from itertools import islice

import pyarrow as pa
import ray
from ray.data import DataContext, TaskPoolStrategy

from pipelines.cluster.ray_data import RETRIES, mapped, set_context
from pipelines.cluster.shares import Shares
from pipelines.training import order
from pipelines.training.batches import PART, SampleBatch, WorkerShare, decode_samples, gather_batches, read_parts

_PARTS = 256
"""Parts of one execution: one for all would begin with a list of all parts of a stage."""
_AHEAD = 2
"""Portions that wait at a worker, beside those in the object store."""
_READERS = 2
"""Each holds all samples of a part, encoded."""


def batches(
    ration: WorkerShare, first: int, last: int, shares: Shares, workers: int
) -> Generator[SampleBatch, None, None]:
    """A worker's share of the batches from step `first` to before `last`.

    Args:
        ration: what it is fed.
        first: the first step.
        last: the step after the last.
        shares: of the cluster, for all workers together.
        workers: how many there are.

    Raises:
        UnavailableError: if a store is away.
    """
    parts = order.parts(ration.order, first, last)
    yield from gather_batches(_portions(parts, ration, shares, workers), ration)


def _portions(
    parts: Iterator[tuple[int, int]], ration: WorkerShare, shares: Shares, workers: int
) -> Iterator[pa.Table]:
    set_context()
    # Not all CPUs: what is decoded ahead holds them while a validation needs some.
    decoders = max(1, (shares.decoders or shares.readers) // workers)
    DataContext.get_current().execution_options.preserve_order = True
    while some := list(islice(parts, _PARTS)):
        tables = [pa.Table.from_pylist([{"start": start, "stop": stop}], schema=PART) for start, stop in some]
        read = mapped(
            ray.data.from_arrow(tables),
            partial(read_parts, ration=ration),
            compute=TaskPoolStrategy(size=_READERS),
            num_cpus=shares.read_cpus,
            max_retries=RETRIES,
        )
        decoded = mapped(
            read,
            partial(decode_samples, how=ration.augmentation, salt=ration.salt),
            compute=TaskPoolStrategy(size=decoders),
            num_cpus=shares.decode_cpus,
            max_retries=RETRIES,
        )
        yield from decoded.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=_AHEAD)
