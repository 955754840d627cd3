"""A claim and a measurement -> a verdict: reproduced, differs, or why the two cannot be compared.

A claim is judged only on the complete evaluation set that it was published for, without errors and with the published
weights; elsewhere its metric is shown without a verdict. A known cause of a difference is listed as a reason, never
subtracted.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal, TypedDict

from pipelines.cells.column import ColumnIdentity
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.evaluation.metrics import Summary
from zoo.cards import Card, Claim

VerdictWord = Literal["reproduced", "differs", "incomplete", "not comparable", "no weights"]
EXACT_POINTS, POINTS = 0.05, 0.10
"""Largest difference from a claim that still reproduces it, in percentage points: in `fp32 exact`, in other modes."""
_CHANCE = 0.5
"""An accuracy of at most so many percent is chance where there are many classes: the labels are in another order."""
_ACCURACY_FIELDS = {
    *("Interpolation", "Crop Pct", "Image Size", "Channels", "Mean", "Std"),
    *("Label Order", "Weights", "Top 1 Accuracy"),
}
"""Fields of a card whose errata can explain a different accuracy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured, and how."""

    summary: Summary
    evaluation_set: EvaluationSet | None
    """The set that the dataset is a copy of; None where that is not known."""
    complete: bool
    """Whether every shard has a cell and none was cut by a limit."""
    precision: str
    decoder: str
    as_published: bool
    """Whether the weights are those that the card names."""
    identity: ColumnIdentity | None = None
    """The cells' settings (`cells.column.Column.identity`); None where they are those of the card and the set."""
    repeated_keys: int = 0
    """Rows whose key occurs in an earlier shard too."""


class VerdictJson(TypedDict):
    """A verdict in the leaderboard's files and page, with the claim's metric and value."""

    metric: str
    claimed: float
    points: float | None
    images: int | None
    verdict: "VerdictWord"
    reasons: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on a claim; `points` and `images` are measured less claimed, None where they are not compared."""

    claim: Claim
    measured: float | None
    points: float | None
    images: int | None
    word: VerdictWord
    reasons: tuple[str, ...]

    @property
    def is_mismatch(self) -> bool:
        """Whether the claim was judged and is not reproduced."""
        return self.word == "differs"

    def to_json(self) -> VerdictJson:
        """The verdict as files store it."""
        return {
            "metric": self.claim.metric,
            "claimed": self.claim.value,
            "points": self.points,
            "images": self.images,
            "verdict": self.word,
            "reasons": list(self.reasons),
        }

    def __str__(self) -> str:
        difference = "" if self.points is None else f", {self.points:+.3f} points, {self.images:+d} images"
        return "; ".join([f"{self.claim.metric} claimed {self.claim.value:.2f}{difference}", *self.reasons])


def judge(card: Card, found: Measured) -> list[Verdict]:
    """A verdict on every claim of `card` for the set that was measured; none on a set without claims."""
    measured_set = found.evaluation_set
    if measured_set is None or measured_set.claims is None:
        return []
    return [_judge(card, claim, found, measured_set) for claim in card.claims if claim.dataset == measured_set.claims]


def without_weights(card: Card, reason: str) -> list[Verdict]:
    """The verdicts on a model that could not be run because its weights could not be obtained."""
    return [_without_comparison(claim, "no weights", (reason,)) for claim in card.claims]


def _judge(card: Card, claim: Claim, found: Measured, measured_set: EvaluationSet) -> Verdict:
    if obstacles := list(_obstacles(card, claim, found, measured_set)):
        return _without_comparison(claim, "not comparable", tuple(obstacles))
    if gaps := list(_gaps(found, measured_set)):
        return _without_comparison(claim, "incomplete", tuple(gaps))
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
    """Half a unit of the claim's last decimal: the claim stands for every accuracy that rounds to it."""
    decimals = claim.decimals
    if decimals is None:
        decimals = -int(Decimal(str(claim.value)).as_tuple().exponent)
    return Decimal(5).scaleb(-decimals - 1)


def _obstacles(card: Card, claim: Claim, found: Measured, measured_set: EvaluationSet) -> Iterable[str]:
    """Why the claim is not about what was measured."""
    if not found.as_published:
        named = card.weights and card.weights.sha256
        yield (
            "the weights are not those that the card names" if named else "no digest of the card's weights is published"
        )
    asked = card.preprocessing.size
    size = found.identity["preprocessing"]["size"] if found.identity else asked
    if size != (claim.size or asked):
        yield f"the claim is for {claim.size or asked} px, measured at {size} px"
    if found.identity and (found.identity["subset"] and tuple(found.identity["subset"])) != measured_set.subset:
        yield f"the classes that count are not those of {measured_set.title}"


def _gaps(found: Measured, measured_set: EvaluationSet) -> Iterable[str]:
    """What the measurement lacks to be of the complete set."""
    if not found.complete:
        yield "not every shard is evaluated"
    if measured_set.images is not None and found.summary.n != measured_set.images:
        yield f"{found.summary.n} images of {measured_set.images}"
    if measured_set.images is None:
        yield f"the number of images of {measured_set.name} is not known"
    if found.summary.errors:
        yield f"{found.summary.errors} images are errors"
    if found.repeated_keys:
        yield f"{found.repeated_keys} keys occur twice"


def _reasons(card: Card, found: Measured) -> Iterable[str]:
    """What may explain a difference."""
    if found.summary.top1 is not None and found.summary.top1 <= _CHANCE:
        yield "as good as chance: the labels, or the classes of the weights, are in another order"
        return
    if found.precision != "fp32":
        yield f"measured in {found.precision}"
    if found.decoder != "exact":
        yield f"decoded by {found.decoder}"
    yield from _changed_settings(card, found.identity) if found.identity else ()
    for erratum in card.errata:
        if erratum.field in _ACCURACY_FIELDS:
            yield f"card, {erratum.field}: {erratum.reason}"


def _changed_settings(card: Card, identity: ColumnIdentity) -> Iterable[str]:
    """Where the cells' settings differ from the card's preprocessing and from the default execution."""
    asked, used = _with_lists(asdict(card.preprocessing)), _with_lists(identity["preprocessing"])
    for name in sorted(asked.keys() | used.keys()):
        if asked.get(name) != used.get(name):
            yield f"measured with {name} {used.get(name)}, the card has {asked.get(name)}"
    if changed := [name for name in ("channels_last", "fold", "compile") if identity["settings"].get(name)]:
        yield f"measured with {', '.join(changed)}"


def _with_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from JSON, which has no tuples."""
    return json.loads(json.dumps(dict(values)))


def _without_comparison(claim: Claim, word: VerdictWord, reasons: tuple[str, ...]) -> Verdict:
    return Verdict(claim=claim, measured=None, points=None, images=None, word=word, reasons=reasons)
