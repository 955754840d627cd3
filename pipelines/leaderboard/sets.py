"""What a store holds -> the evaluation sets of the leaderboard; a column's summary and verdicts on one of them.

A dataset's cells are shown on the set that it is a copy of, and on every relabelled set, which reads the same cells
with other labels.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pipelines.cells.column import is_as_published
from pipelines.cells.inventory import Holding, StoredColumn
from pipelines.data import evaluation_sets
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.evaluation import relabel, verdicts
from pipelines.evaluation.metrics import Summary
from pipelines.evaluation.verdicts import Measured, Verdict
from pipelines.records import Dataset
from zoo.cards import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardSet:
    """A dataset as it was evaluated, or its cells with the labels of another set; names are unique.

    `rank` orders sets, known ones first; `evaluation_set` is None where it is not known what the dataset is a copy of.
    """

    name: str
    title: str
    short: str
    rank: int
    evaluation_set: EvaluationSet | None = None

    @property
    def is_relabelled(self) -> bool:
        """Whether its labels are others than those in the cells."""
        return bool(self.evaluation_set and self.evaluation_set.of)


def leaderboard_sets(holdings: Sequence[Holding], files: Sequence[str]) -> list[tuple[LeaderboardSet, ...]]:
    """For each holding the set that it is, then the relabelled sets that read its cells.

    Args:
        holdings: what a store holds.
        files: YAML files (paths or URIs) that define further evaluation sets.

    Raises:
        ValueError: if a file does not define evaluation sets.
    """
    known = evaluation_sets.known_sets(files)
    same = defaultdict[str, list[Holding]](list)
    for held in holdings:
        same[held.definition or held.dataset.name].append(held)
    # The largest of several copies and parts of a set has the plain name.
    plain = {id(max(group, key=lambda held: _extent(held.dataset))) for group in same.values()}
    return [_sets_of(held, known, "" if id(held) in plain else f"-{held.dataset.digest}") for held in holdings]


def _extent(dataset: Dataset) -> tuple[bool, int, int]:
    """Orders datasets by size: uncut before cut by a limit, then by rows, as far as known, then by shards."""
    whole = all(shard.limit is None for shard in dataset.shards)
    return whole, sum(shard.rows or 0 for shard in dataset.shards), len(dataset.shards)


def _sets_of(held: Holding, known: Mapping[str, EvaluationSet], suffix: str) -> tuple[LeaderboardSet, ...]:
    own = known.get(held.definition or "")
    ranks = {name: rank for rank, name in enumerate(known)}
    if own is None:
        name = f"{held.definition or held.dataset.name}{suffix}"
        return (LeaderboardSet(name=name, title=name, short=name, rank=len(known)),)
    return tuple(
        LeaderboardSet(
            name=f"{each.name}{suffix}",
            title=f"{each.title}{suffix and f' ({held.dataset.name}{suffix})'}",
            short=f"{_short_name(each)}{suffix}",
            rank=ranks[each.name],
            evaluation_set=each,
        )
        for each in (own, *(other for other in known.values() if other.of == own.name))
    )


def _short_name(evaluation_set: EvaluationSet) -> str:
    return (evaluation_set.claims or evaluation_set.name).removeprefix("ImageNet-")


def rows_of_set(cell: pa.Table, shown_set: LeaderboardSet) -> pa.Table:
    """The rows of a cell as `shown_set` labels them.

    Raises:
        ValueError: if a key does not contain the number of its image.
    """
    if shown_set.evaluation_set is None or not shown_set.is_relabelled:
        return cell
    return relabel.relabelled(cell, shown_set.evaluation_set)


def summary_on(summary: Summary, shown_set: LeaderboardSet) -> Summary:
    """The summary without what several right labels leave undefined: the likelihood and the Brier score."""
    return replace(summary, nll=None, brier=None) if shown_set.is_relabelled else summary


def judge_column(card: Card, column: StoredColumn, shown_set: LeaderboardSet, summary: Summary) -> tuple[Verdict, ...]:
    """The verdicts on what `card` claims on a set."""
    measured = Measured(
        summary=summary,
        evaluation_set=shown_set.evaluation_set,
        complete=column.complete and all(shard.limit is None for shard in column.dataset.shards),
        precision=column.settings.precision,
        decoder=column.decoder,
        as_published=is_as_published(card, column.weights),
        identity=column.identity,
    )
    return tuple(verdicts.judge(card, measured))
