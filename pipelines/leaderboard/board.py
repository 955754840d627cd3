"""Committed cells and cards -> the leaderboard as data: a row for each model, its weights and its settings.

A cell is read once for all that is computed from it, since a zoo's cells are gigabytes in an object store. If a cell
cannot be read, only its column is left out, with a note. Evaluation sets and verdicts are in `sets`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from pipelines.cells.column import is_as_published
from pipelines.cells.inventory import Holding, StoredColumn
from pipelines.evaluation import metrics, mistakes
from pipelines.evaluation.metrics import Summary, Tally
from pipelines.evaluation.mistakes import Mistakes
from pipelines.evaluation.report_files import score_or_last
from pipelines.evaluation.verdicts import Verdict
from pipelines.leaderboard.sets import LeaderboardSet, judge_column, rows_of_set, summary_on
from pipelines.records import Decoder, Settings, Shard
from zoo.cards import Card
from zoo.macs import macs

_AT_ONCE = 8
"""Columns that are read at a time: an object store has a long latency and a high throughput."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardEntry:
    """One row on one set: counts, mistakes, verdicts on the card's claims; `speed` in images per second."""

    column: StoredColumn
    set: LeaderboardSet
    tally: Tally
    summary: Summary
    mistakes: Mistakes
    verdicts: tuple[Verdict, ...]
    speed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model with its weights and settings, and its entries by the name of the set."""

    card: Card
    column: StoredColumn
    """One of the row's columns, which differ only in the dataset and in the classes that count."""
    macs: int
    entries: Mapping[str, BoardEntry]

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
        """How images were decoded."""
        return self.column.decoder

    @property
    def is_as_published(self) -> bool:
        """Whether the weights are those that the card's claims are about."""
        return is_as_published(self.card, self.column.weights)

    @property
    def licence(self) -> str | None:
        """The licence of the weights; None where the card names none or the weights are others."""
        return self.card.weights.license if self.card.weights and self.is_as_published else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The leaderboard; `absent` are the models without a cell, `notes` are for its reader."""

    sets: tuple[LeaderboardSet, ...]
    rows: tuple[Row, ...]
    absent: tuple[Card, ...]
    notes: tuple[str, ...]

    def of(self, shown_set: LeaderboardSet) -> list[tuple[Row, BoardEntry]]:
        """The rows that have an entry on a set, best first."""
        there = [(row, row.entries[shown_set.name]) for row in self.rows if shown_set.name in row.entries]
        return sorted(
            there, key=lambda pair: (-score_or_last(pair[1].summary.top1), pair[0].model, pair[1].column.name)
        )


Speed = Callable[[StoredColumn], float | None]
"""Images per second of a column; None where that is not known."""


def build(
    holdings: Sequence[Holding],
    sets: Sequence[tuple[LeaderboardSet, ...]],
    cards: Iterable[Card],
    speed: Speed,
    watch: Callable[[int], None] | None = None,
) -> Board:
    """The leaderboard of what a store holds.

    Args:
        holdings: from `inventory.holdings`.
        sets: the sets of each holding, from `sets.leaderboard_sets`.
        cards: of the models to show; cells of others are left out.
        speed: images per second of a column.
        watch: called with the number of columns that are read, after each.
    """
    known = {card.name: card for card in cards}
    columns = [
        (column, shown_sets)
        for held, shown_sets in zip(holdings, sets, strict=True)
        for column in comparable(held.columns)
        if column.model in known
    ]

    def read(pair: tuple[StoredColumn, Sequence[LeaderboardSet]]) -> tuple[list[BoardEntry], list[str]]:
        column, shown_sets = pair
        try:
            return _entries(column, shown_sets, known[column.model], speed(column))
        except ValueError as error:
            return [], [str(error)]

    outcomes: list[tuple[list[BoardEntry], list[str]]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for outcome in pool.map(read, columns):
            outcomes.append(outcome)
            if watch:
                watch(len(outcomes))
    entries = [entry for found, _ in outcomes for entry in found]
    used = {entry.set.name: entry.set for entry in entries}
    return Board(
        sets=tuple(sorted(used.values(), key=lambda used_set: (used_set.rank, used_set.name))),
        rows=tuple(_rows(entries, known)),
        absent=tuple(known[name] for name in sorted(known.keys() - {column.model for column, _ in columns})),
        notes=(
            *(f"{held.dataset.name}: {reason}" for held in holdings for reason in held.unreadable.values()),
            # Labels that fit no column leave a note with each of them: it is shown once.
            *dict.fromkeys(note for _, notes in outcomes for note in notes),
        ),
    )


def comparable(columns: Sequence[StoredColumn]) -> list[StoredColumn]:
    """The columns to show: of those that differ only in how many classes they keep of an image, the one with most.

    Columns that keep too few classes for top-5, as pseudo-labels may, are left out.
    """
    best: dict[str, StoredColumn] = {}
    for column in columns:
        kept, rest = column.identity["top"], {**column.identity, "top": None}
        name = json.dumps([column.model, column.weights, rest], sort_keys=True)
        enough = min(5, len(column.subset) if column.subset else column.num_classes)
        if kept >= enough and (name not in best or kept > best[name].identity["top"]):
            best[name] = column
    return list(best.values())


_Part = tuple[Tally, Mistakes]


def _entries(
    column: StoredColumn, shown_sets: Sequence[LeaderboardSet], card: Card, speed: float | None
) -> tuple[list[BoardEntry], list[str]]:
    """A column's entries, and why a set has none: labels that do not fit the cells exclude only that set."""
    parts: dict[str, _Part] = {}
    failed: dict[str, str] = {}
    for shard, cell in column.load():
        for shown_set in shown_sets:
            name = shown_set.name
            if name in failed:
                continue
            try:
                rows = rows_of_set(cell, shown_set)
            except ValueError as error:
                failed[name] = f"no {shown_set.title}: {error}"
                continue
            part = _part(column, shard, rows)
            parts[name] = _merged(parts[name], part) if name in parts else part
    good = [shown_set for shown_set in shown_sets if shown_set.name not in failed]
    return [_entry(column, each, *parts[each.name], card, speed) for each in good], list(failed.values())


def _part(column: StoredColumn, shard: Shard, rows: pa.Table) -> _Part:
    about = rows, column.num_classes, column.subset
    return metrics.tally(*about), mistakes.mistakes_of(shard, *about)


def _merged(a: _Part, b: _Part) -> _Part:
    return metrics.merge(a[0], b[0]), mistakes.merge(a[1], b[1])


def _entry(
    column: StoredColumn, shown_set: LeaderboardSet, tally: Tally, found: Mistakes, card: Card, speed: float | None
) -> BoardEntry:
    summary = summary_on(metrics.summary(tally), shown_set)
    return BoardEntry(
        column=column,
        set=shown_set,
        tally=tally,
        summary=summary,
        mistakes=found,
        verdicts=judge_column(card, column, shown_set, summary),
        speed=speed,
    )


def _rows(entries: Iterable[BoardEntry], known: Mapping[str, Card]) -> Iterator[Row]:
    """One row for each model, its weights and settings; which classes count distinguishes sets, not rows."""

    def identity(entry: BoardEntry) -> tuple[str, str, str]:
        column = entry.column
        rest = {name: value for name, value in column.identity.items() if name not in {"subset", "top"}}
        return column.model, column.weights, json.dumps(rest, sort_keys=True)

    for (model, _, _), same in groupby(sorted(entries, key=identity), identity):
        group = list(same)
        by_set = {entry.set.name: entry for entry in group}
        yield Row(card=known[model], column=group[0].column, macs=macs(known[model]), entries=by_set)
