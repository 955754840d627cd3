"""The first and last samples of several shards, read before a run.

Reading a tar to its end is reading all of it, so that the end is read only of shards that are small together.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

from pipelines.data import read
from pipelines.data.parquet_samples import classes_of
from pipelines.data.suffixes import is_parquet
from pipelines.data.tar_members import PassedOver
from pipelines.records import Dataset, Sample, Shard

_SHARDS = 8
"""The most shards that are probed: the first, the last, and some at equal distances between them."""
_SAMPLES = 32
"""At the start of a shard, and as many at its end."""
_MOST_BYTES = 256 << 20
"""Of the first and the last shard together, for these to be read to their ends: seconds from a store."""
_AT_ONCE = 4
_Seen = tuple[str, int | None, str | None]
"""Key, label and error of a sample."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the samples of `shard` that were read show.

    Attributes:
        shard: that was opened.
        keys: of the samples; empty where the shard holds none.
        labels: of each of them; None for one without a label.
        errors: of each of them; None for one without an error.
        passed: members that belong to no sample, counted by kind.
        classes: names of the classes that the labels number, where the shard says so (see `classes_of`).
        failure: why none could be read, or not all where it was read to its end.
        whole: whether these are all samples of the shard.
    """

    shard: Shard
    keys: tuple[str, ...] = ()
    labels: tuple[int | None, ...] = ()
    errors: tuple[str | None, ...] = ()
    passed: Mapping[str, int] = field(default_factory=dict[str, int])
    classes: tuple[str, ...] = ()
    failure: str | None = None
    whole: bool = False

    @property
    def given(self) -> list[int]:
        """The labels that are there."""
        return [label for label in self.labels if label is not None]


def probe(dataset: Dataset) -> list[Probe]:
    """Read samples of several shards of `dataset`; a shard that cannot be read is one with its reason.

    Raises:
        UnavailableError: if the store is unavailable.
    """
    shards = dataset.shards
    ends = {shards[0].uri: shards[0].size, shards[-1].uri: shards[-1].size}
    whole = frozenset(ends) if sum(ends.values()) <= _MOST_BYTES else frozenset[str]()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda shard: _read(shard, shard.uri in whole), _spread(shards)))


def _spread(shards: Sequence[Shard]) -> list[Shard]:
    steps = min(_SHARDS, len(shards)) - 1
    return [shards[step * (len(shards) - 1) // max(steps, 1)] for step in range(steps + 1)]


def _read(shard: Shard, whole: bool) -> Probe:
    passed = PassedOver(Counter())
    part = shard
    if is_parquet(shard.uri) and not whole:  # only a part of the file is fetched then
        part = replace(shard, limit=min(_SAMPLES, shard.limit or _SAMPLES))
    samples = map(_without_image, read.samples(part, passed))
    try:
        seen = list(islice(samples, _SAMPLES))
    except read.ShardError as error:
        return Probe(shard, failure=str(error))
    last, more, failure = _last(samples) if whole else ([], 0, None)
    seen += last
    return Probe(
        shard,
        keys=tuple(key for key, _, _ in seen),
        labels=tuple(label for _, label, _ in seen),
        errors=tuple(error for _, _, error in seen),
        passed=passed.kinds,
        classes=classes_of(shard) if is_parquet(shard.uri) else (),
        failure=failure,
        whole=(whole and len(last) == more) or len(seen) < _SAMPLES,
    )


def _without_image(sample: Sample) -> _Seen:
    return sample.key, sample.label, sample.error


def _last(samples: Iterator[_Seen]) -> tuple[list[_Seen], int, str | None]:
    """The last of `samples`, how many there were, and why these are not all of the shard."""
    last: deque[_Seen] = deque(maxlen=_SAMPLES)
    more = 0
    try:
        for sample in samples:
            last.append(sample)
            more += 1
    except read.ShardError as error:
        return list(last), more, str(error)
    return list(last), more, None
