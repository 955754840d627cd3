"""Checks before Ray starts: are labels there, and are they classes of the models?"""

from collections.abc import Sequence

from jobs.console.progress import count, say
from jobs.steps.probes import Probe
from jobs.steps.unlabelled import seen
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.records import Dataset


def unfit(plan: Plan, probes: Sequence[Probe], evaluation_set: EvaluationSet | None = None) -> dict[str, str]:
    """Compare the labels of the manifest and of several shards with the classes of each column.

    Args:
        plan: the columns, and the dataset.
        probes: what was read of it; nothing if a cell is committed already.
        evaluation_set: what the dataset is a copy of, if that is known.

    Returns:
        Why a column's classes cannot be those of the labels, by the column's name.

    Raises:
        ValueError: if no column fits, or an evaluation set with labels has none.
    """
    dataset = plan.dataset
    if not dataset.labels:
        _require_labels(probes, evaluation_set)
    name = evaluation_set.name if evaluation_set else "the evaluation set"
    reasons = {column.name: reason for column in plan.columns if (reason := _mismatch(dataset, probes, column, name))}
    if plan.columns and len(reasons) == len(plan.columns):
        raise ValueError(next(iter(reasons.values())))
    return reasons


def _require_labels(probes: Sequence[Probe], evaluation_set: EvaluationSet | None) -> None:
    """Raise ValueError if no sample that was read has a label but the evaluation set has; say so if none is named."""
    opened = [entry for entry in probes if entry.keys]
    if not opened or any(entry.given for entry in opened):
        return
    first = opened[0]
    others = f" and of {count(len(opened) - 1, 'other shard')}" if opened[1:] else ""
    error = next((f"; an error there: {error}" for entry in opened for error in entry.errors if error), "")
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
    named = [(entry.classes, entry.shard.uri) for entry in probes if entry.given]
    named += [(dataset.classes, dataset.source)] if dataset.labels else []
    for classes, where in named:
        if reason := _other_classes(classes, where, column):
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


def _other_classes(named: Sequence[str], where: str, column: Column) -> str | None:
    """Why the classes that the data names, and that its labels number, cannot be the column's."""
    classes = column.card.num_classes
    if len(named) in {0, classes}:
        return None
    some = f"{len(named)} classes ({', '.join(named[:3])}, …)"
    remedy = "write the model's own numbers, or ImageNet's synsets, as labels"
    return f"{where}: its labels number {some}, the model has {classes}; {remedy}"


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
