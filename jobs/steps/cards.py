"""The cards that a job knows: the zoo's, those of files, those of the models trained into its store."""

from collections.abc import Sequence

import zoo
from pipelines import storage
from pipelines.models import members
from zoo.cards.reader import read_cards


def all_cards(paths: Sequence[str], store: str | None = None) -> list[zoo.Card]:
    """The cards in a user's model-index files, and those of the models that were trained into `store`.

    A file's card counts where a member of the store has its name.

    Raises:
        ValueError: if one is no text, or has no model-index.
        FileNotFoundError: if one is not there.
    """
    given = [card for path in paths for card in read_cards(storage.read(path), path)]
    names = {card.name for card in given}
    return [card for card in members.cards(store) if card.name not in names] + given if store else given
