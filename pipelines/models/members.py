"""Models that were trained into a store, as members of the zoo: their cards lie in STORE/zoo.

Owns where they lie, and what a card of ours says beside a published one's: how the model came about. Refuses to know
how it was trained; weights are `mirror`'s.
"""

from dataclasses import dataclass

from pipelines import storage
from pipelines.storage.layout import Folder
from zoo.cards import Card
from zoo.cards.reader import read_cards

IDENTITY, TEACHER, SELECTION = "Training Identity", "Teacher", "Selection"
"""Keys of a card's metadata."""


@dataclass(frozen=True, slots=True)
class Descent:
    """Where a member comes from: its training by identity; its teacher and its selection, if there are any."""

    identity: str
    teacher: str | None
    selection: str | None


def uri(store: str, name: str) -> str:
    """Where the card of a member is."""
    return storage.join(store, Folder.ZOO, f"{name}.yaml")


def cards(store: str) -> list[Card]:
    """The cards of all members of a store, by name.

    Raises:
        ValueError: if one is no card.
    """
    places = [entry.uri for entry in storage.list_objects(storage.join(store, Folder.ZOO))]
    documents = [place for place in sorted(places) if place.endswith(".yaml")]
    return [card for place in documents for card in read_cards(storage.read(place), place)]


def descent(card: Card) -> Descent | None:
    """Where a member comes from; None for a model that was not trained here."""
    facts = dict(card.facts)
    if IDENTITY not in facts:
        return None
    return Descent(facts[IDENTITY], facts.get(TEACHER), facts.get(SELECTION))
