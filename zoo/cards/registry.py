"""Models by name.

Owns the table of the zoo's own cards, which are read when first asked for, and the patterns that select from it and
from a user's. Refuses to build anything and to import torch: choosing models must stay instant.
"""

import difflib
import functools
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import resources
from typing import TYPE_CHECKING

from zoo.architectures.architecture import TIMM

if TYPE_CHECKING:
    from zoo.cards.card import Card


def names(pattern: str = "*", extra: "Iterable[Card]" = ()) -> tuple[str, ...]:
    """The models that `pattern` selects, from the zoo's cards and `extra`: see `select`."""
    return tuple(card.name for card in select(pattern, extra))


def select(pattern: str = "*", extra: "Iterable[Card]" = ()) -> "tuple[Card, ...]":
    """The cards that `pattern` selects.

    Args:
        pattern: comma-separated names and shell patterns (`resnest*,sknet50`); `all` is `*`. `timm:NAME` is a model of
            timm's, where timm is installed.
        extra: a user's cards, beside the zoo's own.

    Returns:
        Cards sorted by name, each once.

    Raises:
        ValueError: if one of the comma-separated parts selects nothing, or a name of `extra` is taken.
    """
    known = _with(extra)
    parts = [part.strip() for part in pattern.split(",")]
    chosen = {name: found for part in parts for name, found in _matches(part, known).items()}
    return tuple(chosen[name] for name in sorted(chosen))


def card(name: str) -> "Card":
    """The card of the zoo's model called `name`, or of timm's called `timm:NAME`.

    Raises:
        ValueError: if no model has this name.
    """
    known = published()
    if name in known:
        return known[name]
    if name.startswith(TIMM):
        from zoo.cards import from_timm

        return from_timm.card(name)
    raise ValueError(_unknown(name, known))


@functools.cache
def published() -> "Mapping[str, Card]":
    """The zoo's own cards, by name."""
    from zoo.cards import model_index
    from zoo.cards.reader import cards_of

    folder = resources.files("zoo.cards").joinpath("published")
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".yaml")}
    cards = [card for name, text in texts.items() for card in cards_of(model_index.read_own(text), name)]
    return {card.name: card for card in sorted(cards, key=lambda card: card.name)}


def _with(extra: "Iterable[Card]") -> "dict[str, Card]":
    known = dict(published())
    for found in extra:
        if found.name in known:
            raise ValueError(f"a card is called {found.name!r} already; give yours another name")
        known[found.name] = found
    return known


def _matches(part: str, known: "Mapping[str, Card]") -> "dict[str, Card]":
    if part.startswith(TIMM):
        return {part: card(part)}
    found = {name: card for name, card in known.items() if part == "all" or fnmatchcase(name, part)}
    if not found:
        raise ValueError(_unknown(part, known))
    return found


def _unknown(name: str, known: "Mapping[str, Card]") -> str:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no model matches {name!r}{hint} (known: {', '.join(sorted(known))})"
