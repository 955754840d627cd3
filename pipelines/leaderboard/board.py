"""Committed cells and cards -> the leaderboard as data: which model, run how, is how good on which evaluation set.

Owns what is one row (a model, its weights, its settings), and the order of rows. Reads a cell once for all that is made
of it, since a zoo's cells are gigabytes in an object store. Refuses to lose a board to one bad cell: what cannot be
read is a note. Which sets there are, and what becomes of claims, is in `judging`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from pipelines.cells.inventory import Holding, StoredColumn
from pipelines.evaluation import metrics, mistakes
from pipelines.evaluation.metrics import Summary, Tally
from pipelines.evaluation.mistakes import Mistakes
from pipelines.leaderboard.sets import Judged, LeaderboardSet, is_as_published, judge_column, rows_of_set, summary_on
from pipelines.records import Decoder, Settings, Shard
from zoo.cards import Card
from zoo.macs import macs

_AT_ONCE = 8
"""Columns that are read at a time: an object store answers late, not slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardEntry:
    """One row on one set: counts, mistakes, and what became of the card's claims; `speed` in images a second."""

    column: StoredColumn
    set: LeaderboardSet
    tally: Tally
    summary: Summary
    mistakes: Mistakes
    claims: tuple[Judged, ...]
    speed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model with its weights and settings, and its scores by the name of the set."""

    card: Card
    column: StoredColumn
    """Any of them: they differ in the dataset and in the classes that count alone."""
    macs: int
    scores: Mapping[str, BoardEntry]

    @property
    def model(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def settings(self) -> Settings:
        """How the model was run."""
        return self.column.settings

    @property
    def decoder(self) -> Decoder:
        """How pictures were decoded."""
        return self.column.decoder

    @property
    def is_as_published(self) -> bool:
        """Whether the weights are those of which the card's claims are."""
        return is_as_published(self.card, self.column.weights)

    @property
    def licence(self) -> str | None:
        """Of the weights, where they are the card's and it names one."""
        return self.card.weights.license if self.card.weights and self.is_as_published else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The leaderboard; `absent` are models of which there is no cell, `notes` what the reader has to know."""

    sets: tuple[LeaderboardSet, ...]
    rows: tuple[Row, ...]
    absent: tuple[Card, ...]
    notes: tuple[str, ...]

    def of(self, kind: LeaderboardSet) -> list[tuple[Row, BoardEntry]]:
        """The rows that have a score on a set, best first."""
        scored = [(row, row.scores[kind.name]) for row in self.rows if kind.name in row.scores]
        return sorted(scored, key=lambda pair: (-_number(pair[1].summary.top1), pair[0].model, pair[1].column.name))


Speed = Callable[[StoredColumn], float | None]


def build(
    holdings: Sequence[Holding],
    sets: Sequence[tuple[LeaderboardSet, ...]],
    cards: Iterable[Card],
    speed: Speed,
    watch: Callable[[int], None] | None = None,
) -> Board:
    """Fold what a store holds.

    Args:
        holdings: as `inventory.every` found them.
        sets: of each holding, as `judging.sets` has them: the dataset as it is, and other views of its cells.
        cards: of the models that are wanted; cells of others are left out.
        speed: images a second of a column, None where that is not known.
        watch: told how many columns are folded, after each.
    """
    known = {card.name: card for card in cards}
    pairs = [
        (column, kinds)
        for held, kinds in zip(holdings, sets, strict=True)
        for column in comparable(held.columns)
        if column.model in known
    ]

    def fold(pair: tuple[StoredColumn, Sequence[LeaderboardSet]]) -> tuple[list[BoardEntry], list[str]]:
        column, kinds = pair
        try:
            return _scores(column, kinds, known[column.model], speed(column))
        except ValueError as error:
            return [], [str(error)]

    folded: list[tuple[list[BoardEntry], list[str]]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for outcome in pool.map(fold, pairs):
            folded.append(outcome)
            if watch:
                watch(len(folded))
    scores = [score for found, _ in folded for score in found]
    used = {score.set.name: score.set for score in scores}
    return Board(
        sets=tuple(sorted(used.values(), key=lambda kind: (kind.rank, kind.name))),
        rows=tuple(_rows(scores, known)),
        absent=tuple(known[name] for name in sorted(known.keys() - {column.model for column, _ in pairs})),
        notes=(
            *(f"{held.dataset.name}: {reason}" for held in holdings for reason in held.unreadable.values()),
            *dict.fromkeys(note for _, told in folded for note in told),  # of a view that fits no column, once
        ),
    )


def comparable(columns: Sequence[StoredColumn]) -> list[StoredColumn]:
    """Of columns that differ in how many classes they keep of an image, the one with most; none of too few for top-5.

    Pseudo-labels may keep fewer, of which top-5 would be another number.
    """
    best: dict[str, StoredColumn] = {}
    for column in columns:
        kept, plan = column.identity["top"], {**column.identity, "top": None}
        name = json.dumps([column.model, column.weights, plan], sort_keys=True)
        enough = min(5, len(column.subset) if column.subset else column.num_classes)
        if kept >= enough and (name not in best or kept > best[name].identity["top"]):
            best[name] = column
    return list(best.values())


_Part = tuple[Tally, Mistakes]


def _scores(
    column: StoredColumn, kinds: Sequence[LeaderboardSet], card: Card, speed: float | None
) -> tuple[list[BoardEntry], list[str]]:
    """Scores by set, and why there is none: a view that cannot be had costs itself alone."""
    folded: dict[str, _Part] = {}
    failed: dict[str, str] = {}
    for shard, cell in column.load():
        for kind in kinds:
            if kind.name in failed:
                continue
            try:
                rows = rows_of_set(cell, kind)
            except ValueError as error:
                failed[kind.name] = f"no {kind.title}: {error}"
                continue
            part = _part(column, shard, rows)
            folded[kind.name] = _merged(folded[kind.name], part) if kind.name in folded else part
    good = [kind for kind in kinds if kind.name not in failed]
    return [_score(column, kind, *folded[kind.name], card, speed) for kind in good], list(failed.values())


def _part(column: StoredColumn, shard: Shard, rows: pa.Table) -> _Part:
    about = rows, column.num_classes, column.subset
    return metrics.tally(*about), mistakes.find(shard, *about)


def _merged(a: _Part, b: _Part) -> _Part:
    return metrics.merge(a[0], b[0]), mistakes.merge(a[1], b[1])


def _score(
    column: StoredColumn, kind: LeaderboardSet, tally: Tally, found: Mistakes, card: Card, speed: float | None
) -> BoardEntry:
    summary = summary_on(metrics.summary(tally), kind)
    claims = judge_column(card, column, kind, summary)
    return BoardEntry(column=column, set=kind, tally=tally, summary=summary, mistakes=found, claims=claims, speed=speed)


def _rows(scores: Iterable[BoardEntry], known: Mapping[str, Card]) -> Iterator[Row]:
    """One row a model, its weights and settings; which classes count is a set's business, not a row's."""

    def identity(score: BoardEntry) -> tuple[str, str, str]:
        column = score.column
        plan = {name: value for name, value in column.identity.items() if name not in {"subset", "top"}}
        return column.model, column.weights, json.dumps(plan, sort_keys=True)

    for (model, _, _), same in groupby(sorted(scores, key=identity), identity):
        group = list(same)
        by_set = {score.set.name: score for score in group}
        yield Row(card=known[model], column=group[0].column, macs=macs(known[model]), scores=by_set)


def _number(value: float | None) -> float:
    return -1.0 if value is None else value
