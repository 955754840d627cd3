"""Models by name.

Owns the table of cards and the patterns that select from it. Refuses to build anything and to import torch: choosing
models must stay instant.
"""

import difflib
from fnmatch import fnmatchcase

from zoo.cards import Card
from zoo.published import CARDS

_CARDS = {card.name: card for card in CARDS}


def names(pattern: str = "*") -> tuple[str, ...]:
    """The models that `pattern` selects.

    Args:
        pattern: comma-separated names and shell patterns (`resnest*,sknet50`); `all` is `*`.

    Returns:
        Model ids, sorted, each once.

    Raises:
        ValueError: if one of the comma-separated parts selects nothing.
    """
    parts = [part.strip() for part in pattern.split(",")]
    return tuple(sorted({name for part in parts for name in _matches(part)}))


def card(name: str) -> Card:
    """The card of the model called `name`.

    Raises:
        ValueError: if no model has this name.
    """
    if name not in _CARDS:
        raise ValueError(_unknown(name))
    return _CARDS[name]


def _matches(part: str) -> list[str]:
    found = [name for name in _CARDS if part == "all" or fnmatchcase(name, part)]
    if not found:
        raise ValueError(_unknown(part))
    return found


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _CARDS, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no model matches {name!r}{hint} (known: {', '.join(sorted(_CARDS))})"
