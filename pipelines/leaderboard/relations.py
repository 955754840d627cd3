"""Which models of a store are to be held against each other: a student and its teacher, a student and its baseline.

Owns the choice of pairs, from what members' cards say. A baseline is a member of the same architecture that was trained
without a selection. Refuses to compare: `diff` does, image by image.
"""

from collections.abc import Iterable, Iterator, Sequence

from pipelines.cells.inventory import Holding, StoredColumn
from pipelines.leaderboard.board import comparable
from pipelines.leaderboard.pairs import Pair, differences
from pipelines.models import members
from zoo.cards import Card


def related_pairs(holdings: Sequence[Holding], cards: Iterable[Card]) -> list[Pair]:
    """Pairs on each dataset that both have, run alike: first the teacher or baseline, then the student."""
    known = {card.name: card for card in cards}
    return [
        Pair(other, student, differences(other, student))
        for held in holdings
        for student in comparable(held.columns)
        for other in _others(student, comparable(held.columns), known)
    ]


def _others(student: StoredColumn, columns: Sequence[StoredColumn], known: dict[str, Card]) -> Iterator[StoredColumn]:
    card = known.get(student.model)
    descent = card and members.descent(card)
    if not card or not descent or not descent.selection:
        return
    for other in columns:
        runs_alike = (other.settings, other.decoder) == (student.settings, student.decoder)
        if runs_alike and other.model in known and _is_related(known[other.model], card):
            yield other


def _is_related(other: Card, student: Card) -> bool:
    taught, own = members.descent(student), members.descent(other)
    assert taught
    is_baseline = bool(own and not own.selection and other.architecture == student.architecture)
    return is_baseline or other.name in (taught.teacher or "").split(",")
