"""Feeds a worker: ranges of samples are read and decoded by Ray Data while the worker trains.

Decides how much of the cluster this takes and how far it may run ahead; never which sample comes when, see `order`.
"""

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import cast

import pyarrow as pa
import ray
from ray.data import DataContext, TaskPoolStrategy

from pipelines.cluster.ray_data import RETRIES, mapped, set_context
from pipelines.cluster.shares import Shares
from pipelines.training.sampling import order
from pipelines.training.sampling.batches import SampleBatch, gather_batches
from pipelines.training.sampling.order import Range
from pipelines.training.sampling.samples import RANGE, WorkerShare, decode_samples, read_ranges

_RANGES = 256
"""Ranges of one execution; a single execution would have to begin with a list of all ranges of a stage."""
_AHEAD = 2
"""Chunks that wait at a worker, beside those in the object store."""
_READERS = 2
"""Each holds all samples of a range, encoded."""


def batches(
    share: WorkerShare, first: int, last: int, shares: Shares, world_size: int
) -> Generator[SampleBatch, None, None]:
    """A worker's batches of the steps [first, last).

    Args:
        share: the worker's.
        first: the first step, counted from 0.
        last: the step after the last.
        shares: of the cluster, for all workers together.
        world_size: the number of workers.

    Raises:
        UnavailableError: if a store is unavailable.
    """
    set_context()
    DataContext.get_current().execution_options.preserve_order = True
    ranges = order.ranges(share.order, first, last)
    chunks = _decoded_chunks(ranges, share, shares, world_size)
    yield from gather_batches(chunks, share)


def _decoded_chunks(ranges: Iterator[Range], share: WorkerShare, shares: Shares, world_size: int) -> Iterator[pa.Table]:
    # Not all CPUs: tasks that decode ahead hold them while a validation needs some.
    decoders = max(1, (shares.decoders or shares.readers) // world_size)
    while some := list(islice(ranges, _RANGES)):
        rows = ({"start": one.start, "stop": one.stop} for one in some)
        tables: list[pa.Table | bytes] = [pa.Table.from_pylist([row], schema=RANGE) for row in rows]
        read = mapped(
            ray.data.from_arrow(tables),
            partial(read_ranges, share=share),
            compute=TaskPoolStrategy(size=_READERS),
            num_cpus=shares.read_cpus,
            max_retries=RETRIES,
        )
        decoded = mapped(
            read,
            partial(decode_samples, augmentation=share.augmentation, salt=share.salt),
            compute=TaskPoolStrategy(size=decoders),
            num_cpus=shares.decode_cpus,
            max_retries=RETRIES,
        )
        found = decoded.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=_AHEAD)
        yield from cast(Iterable[pa.Table], found)  # as the format says
