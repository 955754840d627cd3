"""A claim and a measurement -> whether the one reproduces the other, or why that cannot be said.

Owns the rules. A claim is judged only on the complete set that it is of, without errors, with the weights that it is
of: anything else is a number beside it, never a verdict. Refuses to guess: what may explain a difference is listed as
a reason, not subtracted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.evaluation.metrics import Summary
from zoo.cards import Card, Claim

VerdictWord = Literal["reproduced", "differs", "incomplete", "not comparable", "no weights"]
EXACT_POINTS, POINTS = 0.05, 0.10
"""How far a measurement in `fp32 exact` may be from its claim, and how far any other may, in points of a percent."""
_CHANCE = 0.5
"""Percent of right answers that chance gives at most, of many classes: then the labels are in another order."""
_TOUCHING = {
    *("Interpolation", "Crop Pct", "Image Size", "Channels", "Mean", "Std"),
    *("Label Order", "Weights", "Top 1 Accuracy"),
}
"""Fields of a card whose errata can explain another accuracy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured, and how: `definition` says of which set, None where nobody has said."""

    summary: Summary
    definition: EvaluationSet | None
    complete: bool
    """Whether every shard is there and none was cut by a limit."""
    precision: str
    decoder: str
    as_published: bool
    """Whether the weights are those that the card names."""
    plan: Mapping[str, Any] | None = None
    repeated_keys: int = 0
    """That of the cells (see `cells.Column`); None where it is known to be as the card and the definition have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a claim; `points` and `images` are measured less claimed, None where there is no comparing."""

    claim: Claim
    measured: float | None
    points: float | None
    images: int | None
    word: VerdictWord
    reasons: tuple[str, ...]


def judge(card: Card, found: Measured) -> list[Verdict]:
    """A verdict for every claim of `card` that is of the set that was measured; none on a set without claims."""
    definition = found.definition
    if definition is None or definition.claims is None:
        return []
    return [_judge(card, claim, found, definition) for claim in card.claims if claim.dataset == definition.claims]


def without_weights(card: Card, reason: str) -> list[Verdict]:
    """The verdicts of a model that could not be run, since its weights are not to be had."""
    return [_verdict(claim, "no weights", (reason,)) for claim in card.claims]


def _judge(card: Card, claim: Claim, found: Measured, definition: EvaluationSet) -> Verdict:
    if apart := list(_incomparable(card, claim, found, definition)):
        return _verdict(claim, "not comparable", tuple(apart))
    if lacking := list(_lacking(found, definition)):
        return _verdict(claim, "incomplete", tuple(lacking))
    summary = found.summary
    measured, right = (
        (summary.top1, summary.top1_count) if claim.metric == "top1" else (summary.top5, summary.top5_count)
    )
    assert measured is not None, "a complete set has labels"
    exact = (found.precision, found.decoder) == ("fp32", "exact")
    claimed, half_a_unit = Decimal(str(claim.value)), _half_a_unit(claim)
    points = Decimal(100 * right) / Decimal(summary.n) - claimed
    allowed = Decimal(str(EXACT_POINTS if exact else POINTS)) + half_a_unit
    word: VerdictWord = "reproduced" if abs(points) <= allowed else "differs"
    return Verdict(
        claim=claim,
        measured=measured,
        points=float(points),
        images=right - round(claimed * summary.n / 100),
        word=word,
        reasons=tuple(_reasons(card, found)) if word == "differs" else (),
    )


def _half_a_unit(claim: Claim) -> Decimal:
    """What rounding may have taken from a claim: one of two decimals is of any accuracy that rounds to it."""
    decimals = claim.decimals
    if decimals is None:
        decimals = -int(Decimal(str(claim.value)).as_tuple().exponent)
    return Decimal(5).scaleb(-decimals - 1)


def _incomparable(card: Card, claim: Claim, found: Measured, definition: EvaluationSet) -> Iterable[str]:
    if not found.as_published:
        named = card.weights and card.weights.sha256
        yield (
            "the weights are not those that the card names" if named else "no digest of the card's weights is published"
        )
    asked = card.preprocessing.size
    size = found.plan["preprocessing"]["size"] if found.plan else asked
    if size != (claim.size or asked):
        yield f"the claim is of {claim.size or asked} px, measured at {size} px"
    if found.plan and (found.plan["subset"] and tuple(found.plan["subset"])) != definition.subset:
        yield f"other classes count than those of {definition.title}"


def _lacking(found: Measured, definition: EvaluationSet) -> Iterable[str]:
    if not found.complete:
        yield "not every shard is evaluated"
    if definition.images is not None and found.summary.n != definition.images:
        yield f"{found.summary.n} images of {definition.images}"
    if definition.images is None:
        yield f"nobody has said how many images {definition.name} has"
    if found.summary.errors:
        yield f"{found.summary.errors} images are errors"
    if found.repeated_keys:
        yield f"{found.repeated_keys} keys stand twice"


def _reasons(card: Card, found: Measured) -> Iterable[str]:
    if found.summary.top1 is not None and found.summary.top1 <= _CHANCE:
        yield "as good as chance: the labels, or the classes of the weights, are in another order"
        return
    if found.precision != "fp32":
        yield f"measured in {found.precision}"
    if found.decoder != "exact":
        yield f"decoded by {found.decoder}"
    yield from _settings(card, found.plan) if found.plan else ()
    for erratum in card.errata:
        if erratum.field in _TOUCHING:
            yield f"card, {erratum.field}: {erratum.reason}"


def _settings(card: Card, plan: Mapping[str, Any]) -> Iterable[str]:
    """In what a plan differs from the card and from how a model is run plainly."""
    asked, used = _plain(asdict(card.preprocessing)), _plain(plan["preprocessing"])
    for name in sorted(asked.keys() | used.keys()):
        if asked.get(name) != used.get(name):
            yield f"measured with {name} {used.get(name)}, the card has {asked.get(name)}"
    if changed := [name for name in ("channels_last", "fold", "compile") if plan["settings"].get(name)]:
        yield f"measured with {', '.join(changed)}"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from JSON, which has no tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _verdict(claim: Claim, word: VerdictWord, reasons: tuple[str, ...]) -> Verdict:
    return Verdict(claim=claim, measured=None, points=None, images=None, word=word, reasons=reasons)
