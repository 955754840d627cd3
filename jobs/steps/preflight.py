"""Checks before Ray starts: are weights available, shards readable, labels classes of the models?

Only faults of a whole model, shard or dataset are found here; a bad image becomes a row with its reason.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from jobs.console.progress import count, say
from pipelines.cells.cell import cell_uri
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.data import read
from pipelines.messages import one_line
from pipelines.models import mirror
from pipelines.records import Dataset, Shard

_PROBED = 8
"""The most shards that are tried, one after the other, until one can be read."""
_PROBED_SAMPLES = 32
_FETCHES = 8
"""Weights files fetched at once; most of the time each waits for a server."""


def fetch_weights(plan: Plan, others: bool) -> dict[str, str]:
    """Fetch the weights of the models of `plan` that are neither on this machine nor in the store.

    Args:
        plan: only models with missing cells need weights.
        others: whether the run has further models besides those of `plan`.

    Returns:
        Why weights are not available, by the model's name.

    Raises:
        FileNotFoundError: if no model's weights are available and there are no `others`.
    """
    lacking = [column for column, missing in zip(plan.columns, plan.missing, strict=True) if missing]
    by_model = {member.card.name: member for column in lacking for member in column.members}.values()
    remote = [column for column in by_model if not mirror.is_near(column.file)]
    if remote:
        say(f"fetching {count(len(remote), 'weights file')}, neither on this machine nor in the store")
    with ThreadPoolExecutor(_FETCHES) as pool:
        reasons = dict(zip((column.card.name for column in remote), pool.map(_fetch, remote), strict=True))
    absent = {name: reason for name, reason in reasons.items() if reason}
    if len(absent) == len({member.card.name for column in plan.columns for member in column.members}) and not others:
        raise FileNotFoundError("; ".join(f"{name}: {reason}" for name, reason in absent.items()))
    return absent


def _fetch(column: Column) -> str | None:
    try:
        mirror.obtain(column.file)
    except FileNotFoundError as error:
        return one_line(error)
    say(f"fetched  {column.file.file}")
    return None


def with_readable_shards(store: str, dataset: Dataset, columns: Sequence[Column], uris: Sequence[str]) -> list[str]:
    """Those of the cells `uris` whose shard can be read to its end; prints why the others are kept."""
    wanted, reasons = set(uris), {}
    cells = ((cell_uri(store, dataset, column, shard), shard) for column in columns for shard in dataset.shards)
    readable = []
    for uri, shard in ((uri, shard) for uri, shard in cells if uri in wanted):
        if shard.uri not in reasons:
            reasons[shard.uri] = _read_failure(shard)
        if reason := reasons[shard.uri]:
            say(f"kept     {uri}: its shard cannot be read now: {reason}")
        else:
            readable.append(uri)
    return readable


def _read_failure(shard: Shard) -> str | None:
    """Why the shard cannot be read to its end, if it cannot."""
    try:
        for _ in read.samples(shard):
            pass
    except (read.ShardError, OSError) as error:
        return str(error)
    return None


def unfit(plan: Plan) -> dict[str, str]:
    """Compare the labels of the manifest and of one shard with the classes of each column.

    A shard is read only if no cell is committed yet.

    Returns:
        Why a column's classes cannot be those of the labels, by the column's name.

    Raises:
        ValueError: if no column fits, or no shard can be read.
        UnavailableError: if the data's store is unavailable.
    """
    dataset = plan.dataset
    extremes, probed, shard = dataset.labels or (), (), dataset.source
    if plan.pending == plan.needed:
        probed, shard = _probe(dataset)
    reasons = {
        column.name: reason
        for column in plan.columns
        if (
            reason := _mismatch(extremes, column, dataset.source, only_extremes=True)
            or _mismatch(probed, column, shard, only_extremes=False)
        )
    }
    if plan.columns and len(reasons) == len(plan.columns):
        raise ValueError(next(iter(reasons.values())))
    return reasons


def _mismatch(labels: Sequence[int], column: Column, where: str, *, only_extremes: bool) -> str | None:
    """Why `labels`, all of them or `only_extremes` (least and greatest), are not classes of the column."""
    classes = column.card.num_classes
    if not labels:
        return None
    if min(labels) < 0 or max(labels) >= classes:
        hint = "; do they count from 1?" if max(labels) == classes else ""
        return f"{where}: labels from {min(labels)} to {max(labels)}, expected 0 to {classes - 1}{hint}"
    if only_extremes or column.subset is None or set(labels) & set(column.subset):
        return None
    few = f"the {len(column.subset)} classes of the evaluation set"
    return f"{where}: no label is one of {few}, numbered as the model's {classes}; the first label is {labels[0]}"


def _probe(dataset: Dataset) -> tuple[Sequence[int], str]:
    """The first labels of a readable shard and the shard's URI; a few shards, far apart, are tried."""
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
