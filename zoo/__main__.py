"""`python -m zoo` lists the models and their claims; `python -m zoo PATTERN` shows complete cards and checks them.

    python -m zoo
    python -m zoo 'resnest*'
    python -m zoo my_student --cards my_student.yaml

The listing takes a fraction of a second and does not load torch. For a card, the claimed sizes and costs are shown
beside those of its architecture, which is built without weights. Accuracy is not measured: `jobs.evaluate` does that.
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
"""Columns of the output where it goes to a pipe or a file."""


def show(
    pattern: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = None,
    cards: tuple[str, ...] = (),
) -> None:
    """List the models of the zoo, or show complete cards and check their claims of size and cost.

    Args:
        pattern: Models whose cards are shown: comma-separated names and shell patterns, `timm:NAME`, or `all`.
        cards: Model-index files with additional cards.
    """
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDTH)
    extra = [card for path in cards for card in read_cards(_content(path), path)]
    if pattern is None:
        console.print(_listing(zoo.select("all", extra)))
        return
    for card in zoo.select(pattern, extra):
        console.print(_card_table(card))
        console.print(_audit_table(audit(card)))


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OSError(f"--cards {path}: {(error.strerror or str(error)).lower()}") from error


def main() -> int:
    """Parse the command line and run it.

    Returns:
        The exit code: 0, or 2 after one line on standard error.
    """
    try:
        if sys.argv.count("--cards") > 1:  # the parser would silently drop the files after the first --cards
            raise ValueError("--cards is given twice; give all files after one --cards")
        tyro.cli(show, prog="python -m zoo")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return _BAD_ARGUMENTS
    return 0


def _listing(cards: tuple[zoo.Card, ...]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("model", "params", "size", "crop", "interpolation", "claims", "licence", "weights"):
        # In a narrow terminal only the claims wrap, so that grep finds the other values.
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
            "present" if _local_file(card) else "absent",
        )
    return table


def _main_claims(card: zoo.Card) -> list[zoo.Claim]:
    """The claims on the dataset of the card's first claim, at the card's own image size."""
    return [claim for claim in card.claims if claim.size is None and claim.dataset == card.claims[0].dataset]


def _card_table(card: zoo.Card) -> Table:
    table = Table(title=card.name, title_justify="left", box=None, show_header=False)
    table.add_column("field")
    table.add_column("value", overflow="fold")
    for field, value in [*_model_fields(card), *_weights_fields(card)]:
        table.add_row(field, value)
    return table


def _model_fields(card: zoo.Card) -> list[tuple[str, str]]:
    shape = card.preprocessing
    return [
        ("paper", card.paper),
        ("code", card.code or "none"),
        ("architecture", f"{card.architecture}, {card.num_classes} classes"),
        ("size", f"{shape.size} px, cut from a short side of {shape.geometry.resize} (crop {shape.crop_pct})"),
        ("interpolation", shape.interpolation),
        ("mean", f"{_triple(shape.mean)} of {shape.channels} in [0, 1]"),
        ("std", _triple(shape.std)),
        *[(f"claim {claim.metric}", _claim_text(claim)) for claim in card.claims],
        *[(f"erratum {erratum.field}", _erratum_text(erratum)) for erratum in card.errata],
        *card.facts,
    ]


def _claim_text(claim: zoo.Claim) -> str:
    size = f" at {claim.size} px" if claim.size else ""
    return f"{claim.value:.{max(2, claim.decimals or 0)}f} % on {claim.dataset}{size}\n{claim.source}"


def _erratum_text(erratum: zoo.Erratum) -> str:
    change = f"{erratum.published} -> {erratum.correct or 'unknown'}; " if erratum.published else ""
    added = f"{erratum.correct}; " if erratum.correct and not erratum.published else ""
    return f"{change}{added}{erratum.reason}"


def _weights_fields(card: zoo.Card) -> list[tuple[str, str]]:
    if card.weights is None:
        return [("weights", "none published")]
    return [
        ("weights", card.weights.location),
        *[("mirror", mirror) for mirror in card.weights.mirrors],
        ("SHA-256", card.weights.sha256 or "none published"),
        ("label order", card.label_order),
        ("licence", card.weights.license or "not stated"),
        ("local file", _local_file(card) or "none"),
    ]


def _audit_table(findings: tuple[CardFinding, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("checked", "claimed", "computed", "", "of"):
        table.add_column(heading, justify="right" if heading in {"claimed", "computed"} else "left")
    for finding in findings:
        verdict = {True: Text("agrees", "green"), False: Text("DIFFERS", "bold red"), None: Text("")}[finding.agrees]
        claimed = "" if finding.claimed is None else f"{finding.claimed:,}"
        table.add_row(finding.what, claimed, f"{finding.computed:,}", verdict, finding.note)
    return table


def _local_file(card: zoo.Card) -> str:
    """The path of the card's weights on this machine, empty where they would have to be fetched."""
    return str(cache.at_hand(wanted.published(card)) or "") if card.weights else ""


def _triple(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
