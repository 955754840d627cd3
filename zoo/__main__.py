"""`python -m zoo`: the models and what is claimed of them; `python -m zoo PATTERN`: their cards, whole and checked.

    python -m zoo
    python -m zoo 'resnest*'
    python -m zoo my_student --cards my_student.yaml

Owns the two views. The listing is instant and without torch; a card is shown beside what its architecture computes to,
which builds that without weights. Refuses to load weights or to measure accuracy.
"""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

import zoo
from zoo.audit import CardFinding, audit
from zoo.cards.reader import read_cards
from zoo.weights import cache, wanted

_BAD_ARGUMENTS = 2
_WIDTH = 120
"""Of a pipe, which has no width of its own."""


def show(
    pattern: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = None,
    cards: tuple[str, ...] = (),
) -> None:
    """List the models of the zoo, or show the cards of some, with every claim of size and cost checked.

    Args:
        pattern: Models whose cards are shown whole: comma-separated names and shell patterns, `timm:NAME`, or `all`.
        cards: Model-index files with cards of your own, shown too.
    """
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDTH)
    extra = [card for path in cards for card in read_cards(Path(path).read_bytes(), path)]
    if pattern is None:
        console.print(_listing(zoo.select("all", extra)))
        return
    for card in zoo.select(pattern, extra):
        console.print(_whole(card))
        console.print(_checked(audit(card)))


def main() -> int:
    """Parse the command line and show what it asks for; 2 after one line on standard error where it cannot be."""
    try:
        if sys.argv.count("--cards") > 1:  # the parser would keep the second and drop the first without a word
            raise ValueError("--cards is given twice; give all files after one")
        tyro.cli(show, prog="python -m zoo")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return _BAD_ARGUMENTS
    return 0


def _listing(cards: tuple[zoo.Card, ...]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("model", "params", "size", "crop", "interpolation", "claims", "licence", "weights"):
        # In a narrow terminal the claims go on a second line; what one greps for stays whole.
        table.add_column(heading, no_wrap=heading != "claims")
    for card in cards:
        shape = card.preprocessing
        claims = " ".join(f"{claim.metric} {claim.value:.2f}" for claim in _main_claims(card))
        table.add_row(
            card.name,
            f"{card.params / 1e6:.2f} M",
            str(shape.size),
            f"{shape.crop_pct:.3f}",
            shape.interpolation,
            claims,
            (card.weights.license or "not stated") if card.weights else "",
            "at hand" if _where(card) else "absent",
        )
    return table


def _main_claims(card: zoo.Card) -> list[zoo.Claim]:
    """Those of the set that the card names first, at the card's own size."""
    return [claim for claim in card.claims if claim.size is None and claim.dataset == card.claims[0].dataset]


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
        ("code", card.code or "none"),
        ("architecture", f"{card.architecture}, {card.num_classes} classes"),
        ("size", f"{shape.size} px, cut from a short side of {shape.geometry.resize} (crop {shape.crop_pct})"),
        ("interpolation", shape.interpolation),
        ("mean", f"{_triple(shape.mean)} of {shape.channels} in [0, 1]"),
        ("std", _triple(shape.std)),
        *[(f"claim {claim.metric}", _claim(claim)) for claim in card.claims],
        *[(f"erratum {erratum.field}", _erratum(erratum)) for erratum in card.errata],
        *card.facts,
    ]


def _claim(claim: zoo.Claim) -> str:
    size = f" at {claim.size} px" if claim.size else ""
    return f"{claim.value:.{max(2, claim.decimals or 0)}f} % on {claim.dataset}{size}\n{claim.source}"


def _erratum(erratum: zoo.Erratum) -> str:
    change = f"{erratum.published} -> {erratum.correct or 'not known'}; " if erratum.published else ""
    added = f"{erratum.correct}; " if erratum.correct and not erratum.published else ""
    return f"{change}{added}{erratum.reason}"


def _published(card: zoo.Card) -> list[tuple[str, str]]:
    if card.weights is None:
        return [("weights", "none published")]
    return [
        ("weights", card.weights.location),
        *[("mirror", mirror) for mirror in card.weights.mirrors],
        ("SHA-256", card.weights.sha256 or "none published"),
        ("label order", card.label_order),
        ("licence", card.weights.license or "not stated"),
        ("at hand", _where(card) or "no"),
    ]


def _checked(findings: tuple[CardFinding, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("checked", "claimed", "computed", "", "of"):
        table.add_column(heading, justify="right" if heading in {"claimed", "computed"} else "left")
    for finding in findings:
        verdict = {True: Text("agrees", "green"), False: Text("DIFFERS", "bold red"), None: Text("")}[finding.agrees]
        claimed = "" if finding.claimed is None else f"{finding.claimed:,}"
        table.add_row(finding.what, claimed, f"{finding.computed:,}", verdict, finding.note)
    return table


def _where(card: zoo.Card) -> str:
    return str(cache.at_hand(wanted.published(card)) or "") if card.weights else ""


def _triple(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
