"""Find cards by name or pattern, among the zoo's own and a user's.

The zoo's own cards are read on first use. Nothing is built and torch is not imported, so choosing models is fast.
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
    """The names of the cards that `pattern` selects, see `select`."""
    return tuple(card.name for card in select(pattern, extra))


def select(pattern: str = "*", extra: "Iterable[Card]" = ()) -> "tuple[Card, ...]":
    """The cards that `pattern` selects.

    Args:
        pattern: Comma-separated names and shell patterns (`resnest*,sknet50`); `all` is `*`. `timm:NAME` selects a
            model of timm, if that is installed.
        extra: A user's cards, in addition to the zoo's own.

    Returns:
        The cards sorted by name, without duplicates.

    Raises:
        ValueError: If one of the comma-separated parts selects nothing, or a card of `extra` has the name of another.
    """
    known = _with_extra(extra)
    parts = [part.strip() for part in pattern.split(",")]
    chosen = {name: found for part in parts for name, found in _matches(part, known).items()}
    return tuple(chosen[name] for name in sorted(chosen))


def card(name: str) -> "Card":
    """The card of the zoo's model `name`, or of timm's model for `timm:NAME`.

    Raises:
        ValueError: If there is no such model, or timm is needed and not installed.
    """
    known = published()
    if name in known:
        return known[name]
    if name.startswith(TIMM):
        from zoo.cards import from_timm

        return from_timm.card(name)
    raise ValueError(_no_match(name, known))


@functools.cache
def published() -> "Mapping[str, Card]":
    """The zoo's own cards, by name."""
    from zoo.cards import model_index
    from zoo.cards.reader import cards_of

    folder = resources.files("zoo.cards").joinpath("published")
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".yaml")}
    cards = [card for name, text in texts.items() for card in cards_of(model_index.read_own(text), name)]
    return {card.name: card for card in sorted(cards, key=lambda card: card.name)}


def _with_extra(extra: "Iterable[Card]") -> "dict[str, Card]":
    known = dict(published())
    for found in extra:
        if found.name in known:
            raise ValueError(f"there is already a card named {found.name!r}; give the new one another name")
        known[found.name] = found
    return known


def _matches(part: str, known: "Mapping[str, Card]") -> "dict[str, Card]":
    if part.startswith(TIMM):
        return {part: card(part)}
    found = {name: card for name, card in known.items() if part == "all" or fnmatchcase(name, part)}
    if not found:
        raise ValueError(_no_match(part, known))
    return found


def _no_match(name: str, known: "Mapping[str, Card]") -> str:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no model matches {name!r}{hint} (known: {', '.join(sorted(known))})"
