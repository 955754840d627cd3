"""The bytes of a shard -> samples: which reader is for which form of shard, and how reading ends.

No shard ends early without an error: a cut, an unreadable header, or bytes that differ from the manifest fail the whole
shard.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from pipelines.data.parquet_samples import parquet_samples
from pipelines.data.suffixes import is_parquet
from pipelines.data.tar_members import PassedOver
from pipelines.data.tar_samples import tar_samples
from pipelines.records import Sample, Shard

UNREADABLE = (OSError, EOFError, ValueError, OverflowError, tarfile.TarError, pa.ArrowException)
"""What the readers raise on a damaged shard; ValueError and OverflowError because tarfile and pyarrow do not check the
numbers and texts that they parse."""
MAX_SAMPLES = 1_000_000
"""Samples in a shard: every key is kept in memory until its end, and a stream of members may never end."""


def read_samples(shard: Shard, passed: PassedOver | None = None) -> Iterator[Sample]:
    """Every sample of `shard` as it is stored, in order and up to its limit.

    Args:
        shard: what to read.
        passed: counts, to which members that are no part of a sample are added.

    Raises:
        ShardError: if its bytes differ from its manifest, or its format is wrong.
        UNREADABLE: if it is damaged.
    """
    if is_parquet(shard.uri):
        return islice(parquet_samples(shard), shard.limit)
    return tar_samples(shard, passed or PassedOver(Counter()))
