"""What would fail for certain, said before Ray starts.

Owns the look at a shard's labels, at the weights and at the store. Refuses to judge what only some pictures suffer
from: that is a row with its reason.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from jobs.console.progress import count, say
from pipelines.cells.cell import cell_uri
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.data import read
from pipelines.models import mirror
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
    one_a_model = {member.card.name: member for column in lacking for member in column.members}.values()
    far = [column for column in one_a_model if not mirror.is_near(column.file)]
    if far:
        say(f"fetching {count(len(far), 'file')} of weights that are neither on this machine nor in the store")
    with ThreadPoolExecutor(_FETCHES) as pool:
        reasons = dict(zip((column.card.name for column in far), pool.map(_fetch, far), strict=True))
    absent = {name: reason for name, reason in reasons.items() if reason}
    if len(absent) == len({member.card.name for column in plan.columns for member in column.members}) and not others:
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
    places = ((cell_uri(store, dataset, column, shard), shard) for column in columns for shard in dataset.shards)
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


def unfit(plan: Plan) -> dict[str, str]:
    """Of which columns, by name, the classes are not those of the labels: of the manifest, and of a shard.

    A shard is looked at only if none has been read before.

    Raises:
        ValueError: if that is so of every column, or no shard can be read.
        UnavailableError: if the data's store is away.
    """
    dataset = plan.dataset
    found, where = (dataset.labels or (), dataset.source)
    probed, shard = _probe(dataset) if plan.pending == plan.needed else ((), dataset.source)
    told = {
        column.name: reason
        for column in plan.columns
        if (reason := _unfit(found, column, where, ends=True) or _unfit(probed, column, shard, ends=False))
    }
    if plan.columns and len(told) == len(plan.columns):
        raise ValueError(next(iter(told.values())))
    return told


def _unfit(labels: Sequence[int], column: Column, where: str, *, ends: bool) -> str | None:
    """Why `labels`, of which only the least and greatest are known if they are `ends`, are not the column's classes."""
    classes = column.card.num_classes
    if not labels:
        return None
    if min(labels) < 0 or max(labels) >= classes:
        hint = "; do they count from 1?" if max(labels) == classes else ""
        return f"{where}: labels from {min(labels)} to {max(labels)}, expected 0 to {classes - 1}{hint}"
    if ends or column.subset is None or set(labels) & set(column.subset):
        return None
    few = f"the {len(column.subset)} classes that count"
    return f"{where}: no label is one of {few}; the {classes} of the model are meant; the first label is {labels[0]}"


def _probe(dataset: Dataset) -> tuple[Sequence[int], str]:
    """The first labels of a shard that can be read, and that shard's URI; a few are tried, far apart."""
    reasons = []
    for shard in dataset.shards[:: -(-len(dataset.shards) // _PROBED)]:
        try:
            return _first_labels(shard), shard.uri
        except read.ShardError as error:
            reasons.append(f"{shard.uri}: {error}")
    if len(reasons) == len(dataset.shards):
        raise ValueError(f"no shard can be read ({len(reasons)} tried); {reasons[0]}")
    return (), dataset.source


def _first_labels(shard: Shard) -> Sequence[int]:
    samples = islice(read.samples(shard), _PROBED_SAMPLES)
    return [sample.label for sample in samples if sample.label is not None]
