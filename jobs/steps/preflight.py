"""Checks before Ray starts: are weights available, shards readable, labels there, and classes of the models?

Only faults of a whole model, shard or dataset are found here; a bad image becomes a row with its reason.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jobs.console.progress import count, say
from jobs.steps.probes import Probe, probe
from jobs.steps.unlabelled import seen
from pipelines.cells.cell import cell_uri
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.data import read
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.messages import one_line
from pipelines.models import mirror
from pipelines.records import Dataset, Shard

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


def unfit(plan: Plan, evaluation_set: EvaluationSet | None = None) -> dict[str, str]:
    """Compare the labels of the manifest and of several shards with the classes of each column.

    Shards are read only if no cell is committed yet.

    Args:
        plan: the columns, and the dataset.
        evaluation_set: what the dataset is a copy of, if that is known.

    Returns:
        Why a column's classes cannot be those of the labels, by the column's name.

    Raises:
        ValueError: if no column fits, no shard can be read, or an evaluation set with labels has none.
        UnavailableError: if the data's store is unavailable.
    """
    dataset, probes = plan.dataset, list[Probe]()
    if plan.pending == plan.needed:
        probes = probe(dataset)
        _require_readable(probes, dataset)
        _require_samples(probes, dataset)
        if not dataset.labels:
            _require_labels(probes, evaluation_set)
    name = evaluation_set.name if evaluation_set else "the evaluation set"
    reasons = {column.name: reason for column in plan.columns if (reason := _mismatch(dataset, probes, column, name))}
    if plan.columns and len(reasons) == len(plan.columns):
        raise ValueError(next(iter(reasons.values())))
    return reasons


def _require_readable(probes: Sequence[Probe], dataset: Dataset) -> None:
    reasons = [f"{entry.shard.uri}: {entry.failure}" for entry in probes if entry.failure]
    if len(reasons) == len(dataset.shards):
        raise ValueError(f"no shard can be read ({len(reasons)} tried); {reasons[0]}")


def _require_samples(probes: Sequence[Probe], dataset: Dataset) -> None:
    """Raise ValueError if all shards are empty, or every sample that was read has an error."""
    opened = [entry for entry in probes if not entry.failure]
    if not any(entry.keys for entry in opened) and len(opened) == len(dataset.shards):
        kinds = sorted({kind for entry in opened for kind in entry.passed})
        others = f"; the members are no pictures: {', '.join(kinds)}" if kinds else ""
        raise ValueError(f"{dataset.source}: no sample in {count(len(opened), 'shard')}{others}")
    if opened and sum(len(entry.keys) for entry in opened) == sum(len(entry.errors) for entry in opened) > 0:
        first = next(entry for entry in opened if entry.errors)
        read = sum(len(entry.errors) for entry in opened)
        raise ValueError(
            f"{first.shard.uri}: none of the {count(read, 'sample')} that were read can be used; "
            f"the first, {first.keys[0]!r}: {first.errors[0]}"
        )


def _require_labels(probes: Sequence[Probe], evaluation_set: EvaluationSet | None) -> None:
    """Raise ValueError if no sample that was read has a label but the evaluation set has; say so if none is named."""
    opened = [entry for entry in probes if entry.keys]
    if not opened or any(entry.given for entry in opened):
        return
    first = opened[0]
    others = f" and of {count(len(opened) - 1, 'other shard')}" if opened[1:] else ""
    error = next((f"; an error there: {entry.errors[0]}" for entry in opened if entry.errors), "")
    unlabelled = (
        f"no label in the {count(len(first.labels), 'sample')} that were read of {first.shard.uri}{others} "
        f"(the first is {first.keys[0]!r}{error}); {seen(opened)}"
    )
    if evaluation_set and evaluation_set.labelled:
        raise ValueError(f"--dataset {evaluation_set.name}: {unlabelled}")
    if not evaluation_set:
        say(f"note     {unlabelled}")


def _mismatch(dataset: Dataset, probes: Sequence[Probe], column: Column, name: str) -> str | None:
    """Why the labels of the manifest, or those that were read, cannot be classes of the column."""
    if reason := next((reason for entry in probes if (reason := _other_classes(entry, column))), None):
        return reason
    ranges = [(dataset.labels or (), dataset.source), *((entry.given, entry.shard.uri) for entry in probes)]
    for labels, where in ranges:
        if reason := _out_of_range(labels, column, where):
            return reason
    few = len(column.subset or ())
    if column.subset and dataset.labels in {(0, few - 1), (1, few)} and not set(dataset.labels) <= set(column.subset):
        return f"{dataset.source}: {_among_themselves(dataset.labels, column.subset, name)}"
    where = next((entry.shard.uri for entry in probes if entry.given), dataset.source)
    return _outside([label for entry in probes for label in entry.given], column, where, name)


def _other_classes(entry: Probe, column: Column) -> str | None:
    """Why the classes that a shard names, and that its labels number, cannot be the column's."""
    named, classes = len(entry.classes), column.card.num_classes
    if not entry.given or named in {0, classes}:
        return None
    some = f"{named} classes ({', '.join(entry.classes[:3])}, …)"
    remedy = "write the model's own numbers, or ImageNet's synsets, as labels"
    return f"{entry.shard.uri}: its labels number {some}, the model has {classes}; {remedy}"


def _out_of_range(labels: Sequence[int], column: Column, where: str) -> str | None:
    classes = column.card.num_classes
    if not labels or (min(labels) >= 0 and max(labels) < classes):
        return None
    hint = "; do they count from 1?" if max(labels) == classes else ""
    return f"{where}: labels from {min(labels)} to {max(labels)}, expected 0 to {classes - 1}{hint}"


def _outside(labels: Sequence[int], column: Column, where: str, name: str) -> str | None:
    """Why `labels`, most of which are none of the classes that count, cannot be those of the set `name`."""
    outside = [label for label in labels if column.subset and label not in column.subset]
    if column.subset is None or 2 * len(outside) <= len(labels):
        return None
    if max(labels) <= len(column.subset):
        return f"{where}: {_among_themselves(labels, column.subset, name)}"
    few = f"one of the {len(column.subset)} classes of the evaluation set, numbered as the model's"
    few = f"{few} {column.card.num_classes}"
    if len(outside) < len(labels):
        return f"{where}: of {len(labels)} labels, {len(outside)} are not {few}; the first of these is {outside[0]}"
    return f"{where}: no label is {few}; the first label is {labels[0]}"


def _among_themselves(labels: Sequence[int], subset: Sequence[int], name: str) -> str:
    """What labels mean that are the positions of classes among those of the set `name`."""
    start = int(max(labels) == len(subset))
    return (
        f"labels from {min(labels)} to {max(labels)}: the {len(subset)} classes of {name}, numbered among themselves; "
        f"expected the model's numbers of these classes, where {start} is {subset[0]}, {start + 1} is {subset[1]}, … "
        f"{start + len(subset) - 1} is {subset[-1]}: pack with these, or with synset ids as labels"
    )
