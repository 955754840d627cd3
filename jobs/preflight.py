"""What would fail for certain, said before Ray starts.

Owns the look at a shard's labels, at the weights and at the store. Refuses to judge what only some pictures suffer
from: that is a row with its reason.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from jobs.progress import count, say
from pipelines import cells, mirror, read
from pipelines.cells import Column, Plan
from pipelines.records import Dataset, Shard

_PROBED = 8
"""Shards tried, one after the other, until one can be read, before Ray is started for nothing."""
_PROBED_SAMPLES = 32
_FETCHES = 8
"""Files of weights that are fetched at once, most of them waiting for a server."""


def fetch_weights(plan: Plan, others: bool) -> dict[str, str]:
    """Fetch what is neither here nor in the store; why a model's weights cannot be had, by name.

    Raises:
        FileNotFoundError: if that is so of every model, of which `others` says whether there are more.
    """
    lacking = [column for column, missing in zip(plan.columns, plan.missing, strict=True) if missing]
    one_a_model = {column.card.name: column for column in lacking}.values()
    far = [column for column in one_a_model if not mirror.is_near(column.file)]
    if far:
        say(f"fetching {count(len(far), 'file')} of weights that are neither on this machine nor in the store")
    with ThreadPoolExecutor(_FETCHES) as pool:
        reasons = dict(zip((column.card.name for column in far), pool.map(_fetch, far), strict=True))
    absent = {name: reason for name, reason in reasons.items() if reason}
    if len(absent) == len({column.card.name for column in plan.columns}) and not others:
        raise FileNotFoundError("; ".join(f"{name}: {reason}" for name, reason in absent.items()))
    return absent


def _fetch(column: Column) -> str | None:
    try:
        mirror.obtain(column.file)
    except FileNotFoundError as error:
        return str(error)
    say(f"fetched  {column.file.file}")
    return None


def with_readable_shards(store: str, dataset: Dataset, columns: Sequence[Column], uris: Sequence[str]) -> list[str]:
    """Those of the cells `uris` whose shard can be read to its end; of the others it is said why they are kept."""
    wanted, reasons = set(uris), {}
    places = ((cells.uri(store, dataset, column, shard), shard) for column in columns for shard in dataset.shards)
    readable = []
    for uri, shard in ((uri, shard) for uri, shard in places if uri in wanted):
        if shard.uri not in reasons:
            reasons[shard.uri] = _unreadable(shard)
        if reason := reasons[shard.uri]:
            say(f"kept     {uri}: its shard cannot be read now: {reason}")
        else:
            readable.append(uri)
    return readable


def _unreadable(shard: Shard) -> str | None:
    try:
        for _ in read.samples(shard):
            pass
    except (read.ShardError, OSError) as error:
        return str(error)
    return None


def check_labels(plan: Plan) -> None:
    """Hold the labels of the manifest, and of a shard if none has been read before, against the models' classes.

    Raises:
        ValueError: if they do not fit, or no shard can be read.
        UnavailableError: if the data's store is away.
    """
    classes = min(column.card.num_classes for column in plan.columns)
    _require_range(plan.dataset.labels, classes, plan.dataset.source)
    if plan.pending == plan.needed:
        labels, where = _probe(plan.dataset)
        _require_range(labels, classes, where)


def _probe(dataset: Dataset) -> tuple[tuple[int, int] | None, str]:
    """The range of the first labels of a shard that can be read, and that shard's URI; a few are tried, far apart."""
    reasons = []
    for shard in dataset.shards[:: -(-len(dataset.shards) // _PROBED)]:
        try:
            labels = _first_labels(shard)
        except read.ShardError as error:
            reasons.append(f"{shard.uri}: {error}")
            continue
        return (min(labels), max(labels)) if labels else None, shard.uri
    if len(reasons) == len(dataset.shards):
        raise ValueError(f"no shard can be read ({len(reasons)} tried); {reasons[0]}")
    return None, dataset.source


def _first_labels(shard: Shard) -> Sequence[int]:
    samples = islice(read.samples(shard), _PROBED_SAMPLES)
    return [sample.label for sample in samples if sample.label is not None]


def _require_range(found: tuple[int, int] | None, classes: int, where: str) -> None:
    if found and (found[0] < 0 or found[1] >= classes):
        hint = "; do they count from 1?" if found[1] == classes else ""
        raise ValueError(f"{where}: labels from {found[0]} to {found[1]}, expected 0 to {classes - 1}{hint}")
