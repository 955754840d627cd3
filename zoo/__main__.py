"""`python -m zoo`: the models and what is claimed of them; `python -m zoo PATTERN`: their cards, whole.

Owns the two views. Refuses to load a model: it shows cards, instantly and without torch.
"""

import sys
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

import zoo
from zoo import weights

_BAD_ARGUMENTS = 2


def show(pattern: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = None) -> None:
    """List the models of the zoo, or show the cards of some.

    Args:
        pattern: Models whose cards are shown whole: comma-separated names and shell patterns, or `all`.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if pattern is None:
        console.print(_listing([zoo.card(name) for name in zoo.names()]))
        return
    for name in zoo.names(pattern):
        console.print(_whole(zoo.card(name)))


def main() -> int:
    """Parse the command line and show what it asks for; 2 after one line on standard error where it cannot be."""
    try:
        tyro.cli(show, prog="python -m zoo")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return _BAD_ARGUMENTS
    return 0


def _listing(cards: list[zoo.Card]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("model", "params", "size", "crop", "interpolation", "claims", "licence", "weights"):
        # In a narrow terminal the claims go on a second line; what one greps for stays whole.
        table.add_column(heading, no_wrap=heading != "claims")
    for card in cards:
        shape = card.preprocessing
        claims = " ".join(f"{claim.metric} {claim.value:.2f}" for claim in card.claims)
        table.add_row(
            card.name,
            f"{card.params / 1e6:.2f} M",
            str(shape.size),
            f"{shape.crop_pct:.3f}",
            shape.interpolation,
            claims,
            card.weights.license if card.weights else "",
            "at hand" if _where(card) else "absent",
        )
    return table


def _whole(card: zoo.Card) -> Table:
    table = Table(title=card.name, title_justify="left", box=None, show_header=False)
    table.add_column("field")
    table.add_column("value", overflow="fold")
    for field, value in [*_described(card), *_published(card)]:
        table.add_row(field, value)
    return table


def _described(card: zoo.Card) -> list[tuple[str, str]]:
    shape = card.preprocessing
    return [
        ("paper", card.paper),
        ("architecture", card.architecture),
        ("parameters", f"{card.params:,}, {card.num_classes} classes"),
        ("size", f"{shape.size} px, cut from a short side of {shape.geometry.resize} (crop {shape.crop_pct})"),
        ("interpolation", shape.interpolation),
        ("mean", f"{_triple(shape.mean)} of {shape.channels} in [0, 1]"),
        ("std", _triple(shape.std)),
        *[("claim", f"{claim.metric} {claim.value:.2f} % on {claim.dataset}\n{claim.source}") for claim in card.claims],
        *[("erratum", reason) for reason in card.errata],
    ]


def _published(card: zoo.Card) -> list[tuple[str, str]]:
    if card.weights is None:
        return [("weights", "none published")]
    return [
        ("weights", card.weights.location),
        ("SHA-256", card.weights.sha256),
        ("licence", card.weights.license),
        ("at hand", _where(card) or "no"),
    ]


def _where(card: zoo.Card) -> str:
    try:
        return str(weights.locate(card))
    except (ValueError, FileNotFoundError):
        return ""


def _triple(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
