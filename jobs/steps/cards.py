"""The cards that a job can choose from: the zoo's, those in files, and those of models trained into its store."""

from collections.abc import Sequence

import zoo
from pipelines import storage
from pipelines.models import members
from zoo.cards.reader import read_cards


def all_cards(paths: Sequence[str], store: str | None = None) -> list[zoo.Card]:
    """The cards in a user's model-index files, and those of the models trained into `store`.

    A card from a file takes precedence over a trained model of the same name.

    Raises:
        ValueError: if a file is not text or has no model-index.
        FileNotFoundError: if a file does not exist.
    """
    given = [card for path in paths for card in read_cards(storage.read(path), path)]
    names = {card.name for card in given}
    return [card for card in members.cards(store) if card.name not in names] + given if store else given
