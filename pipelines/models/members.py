"""Models that were trained here, as members of the zoo: their cards are in STORE/zoo.

Besides what a published card says, their cards name the training, the teacher and the selection.
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
    """The origin of a member: the identity of its training, and its teacher and selection, if there are any."""

    identity: str
    teacher: str | None
    selection: str | None


def uri(store: str, name: str) -> str:
    """The URI of the card of a member."""
    return storage.join(store, Folder.ZOO, f"{name}.yaml")


def cards(store: str) -> list[Card]:
    """The cards of all members of a store, sorted by name.

    Raises:
        ValueError: if one cannot be read as a card.
    """
    places = [entry.uri for entry in storage.list_objects(storage.join(store, Folder.ZOO))]
    documents = [place for place in sorted(places) if place.endswith(".yaml")]
    return [card for place in documents for card in read_cards(storage.read(place), place)]


def descent(card: Card) -> Descent | None:
    """The origin of a member; None for a model that was not trained here."""
    facts = dict(card.facts)
    if IDENTITY not in facts:
        return None
    return Descent(facts[IDENTITY], facts.get(TEACHER), facts.get(SELECTION))
