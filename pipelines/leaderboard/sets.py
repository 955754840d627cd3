"""From what a store holds to evaluation sets, and from a score to what became of the card's claims.

Owns which sets a dataset's cells are shown on (itself, and the views that read them with other labels), and what those
are called. Refuses to judge and to relabel by itself: `verdicts` and `labels` do.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pipelines.cells.inventory import Holding, StoredColumn
from pipelines.data import evaluation_sets
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.evaluation import relabel, verdicts
from pipelines.evaluation.metrics import Summary
from pipelines.evaluation.verdicts import Measured
from pipelines.records import Dataset
from zoo.cards import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardSet:
    """What scores are of: a dataset as it was evaluated, or another view of its cells; no two have one name.

    `rank` puts what is known before what is not; `definition` is None where nobody has said what the dataset is.
    """

    name: str
    title: str
    short: str
    rank: int
    definition: EvaluationSet | None = None

    @property
    def is_view(self) -> bool:
        """Whether its labels are others than those in the cells."""
        return bool(self.definition and self.definition.of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim of a card and what became of it; `points` and `images` are measured less claimed, where comparable."""

    metric: str
    claimed: float
    points: float | None
    images: int | None
    verdict: str
    reasons: tuple[str, ...]

    @property
    def is_mismatch(self) -> bool:
        """Whether the claim was judged and is not reproduced."""
        return self.verdict == "differs"

    def __str__(self) -> str:
        difference = "" if self.points is None else f", {self.points:+.3f} points, {self.images:+d} images"
        return "; ".join([f"{self.metric} claimed {self.claimed:.2f}{difference}", *self.reasons])


def leaderboard_sets(holdings: Sequence[Holding], files: Sequence[str]) -> list[tuple[LeaderboardSet, ...]]:
    """Of each holding: the set that it is, then the views of it; `files` define sets of a user's.

    Raises:
        ValueError: if a file is no definition of sets.
    """
    known = evaluation_sets.known_sets(files)
    same = defaultdict(list)
    for held in holdings:
        same[held.definition or held.dataset.name].append(held)
    # Of several copies and parts of a set, the largest has the plain name.
    plain = {id(max(group, key=lambda held: _extent(held.dataset))) for group in same.values()}
    return [_kinds(held, known, "" if id(held) in plain else f"-{held.dataset.digest}") for held in holdings]


def _extent(dataset: Dataset) -> tuple[bool, int, int]:
    """What is whole is larger than what a limit cut; then by rows, as far as they are known, and by shards."""
    whole = all(shard.limit is None for shard in dataset.shards)
    return whole, sum(shard.rows or 0 for shard in dataset.shards), len(dataset.shards)


def _kinds(held: Holding, known: dict[str, EvaluationSet], suffix: str) -> tuple[LeaderboardSet, ...]:
    own = known.get(held.definition or "")
    ranks = {name: rank for rank, name in enumerate(known)}
    if own is None:
        name = f"{held.definition or held.dataset.name}{suffix}"
        return (LeaderboardSet(name=name, title=name, short=name, rank=len(known)),)
    return tuple(
        LeaderboardSet(
            name=f"{each.name}{suffix}",
            title=f"{each.title}{suffix and f' ({held.dataset.name}{suffix})'}",
            short=f"{_short(each)}{suffix}",
            rank=ranks[each.name],
            definition=each,
        )
        for each in (own, *(view for view in known.values() if view.of == own.name))
    )


def _short(definition: EvaluationSet) -> str:
    return (definition.claims or definition.name).removeprefix("ImageNet-")


def rows_of_set(cell: pa.Table, kind: LeaderboardSet) -> pa.Table:
    """The rows of a cell as `kind` labels them.

    Raises:
        ValueError: if a key does not say which image it is.
    """
    return relabel.relabelled(cell, kind.definition) if kind.definition and kind.is_view else cell


def summary_on(summary: Summary, kind: LeaderboardSet) -> Summary:
    """Without what is not defined there: with several right labels, there is neither a likelihood nor a Brier score."""
    return replace(summary, nll=None, brier=None) if kind.is_view else summary


def judge_column(card: Card, column: StoredColumn, kind: LeaderboardSet, summary: Summary) -> tuple[Judged, ...]:
    """What became of the claims that `card` makes on a set."""
    measured = Measured(
        summary=summary,
        definition=kind.definition,
        complete=column.complete and all(shard.limit is None for shard in column.dataset.shards),
        precision=column.settings.precision,
        decoder=column.decoder,
        as_published=is_as_published(card, column.weights),
        plan=column.identity,
    )
    return tuple(
        Judged(
            metric=verdict.claim.metric,
            claimed=verdict.claim.value,
            points=verdict.points,
            images=verdict.images,
            verdict=verdict.word,
            reasons=verdict.reasons,
        )
        for verdict in verdicts.judge(card, measured)
    )


def is_as_published(card: Card, weights: str) -> bool:
    """Whether `weights`, a SHA-256 or as much as is published of it, are those of which the card's claims are."""
    published = card.weights.sha256 if card.weights else None
    return bool(published and weights.startswith(published))
