"""What a card claims of a model's size and cost, beside what its architecture says.

Owns the comparison. Refuses accuracy: that takes images, and is `jobs.evaluate`'s. Builds the architecture without a
weight, so that all of it takes a second and no download.
"""

from dataclasses import dataclass
from typing import Literal

from zoo.cards import Card

_OVERHEAD_BYTES = 1024
"""The most that a checkpoint holds for each tensor beyond its values; those published have 124 to 175."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFinding:
    """One claim, checked: `claimed` is as published (None where nothing is), `computed` is ours, `note` says how."""

    what: Literal["parameters", "FLOPs", "multiply-accumulates", "file size"]
    claimed: int | None
    computed: int
    agrees: bool | None
    note: str


def audit(card: Card) -> tuple[CardFinding, ...]:
    """Parameters, operations and bytes of `card`, claimed and computed.

    Parameters agree when ours, rounded as the claim is, are the claim. FLOPs agree when the cards' own rule gives them
    exactly (see `counts.published_flops`) or our multiply-accumulates do, rounded. A file's size agrees when it is that
    of the tensors and of a checkpoint's usual overhead.
    """
    import torch

    from zoo import counts

    with torch.device("meta"):
        model = card.network.build(card.num_classes)
    size = card.preprocessing.size
    macs = counts.macs(model, size)
    return (
        _parameters(card, counts.parameters(model)),
        *([_flops(card.claimed_flops, counts.published_flops(model, size), macs)] if card.claimed_flops else []),
        CardFinding(
            what="multiply-accumulates",
            claimed=None,
            computed=macs,
            agrees=None,
            note=f"of convolutions and classifier at {size} x {size}",
        ),
        _bytes(card, *counts.tensor_bytes(model)),
    )


def _parameters(card: Card, computed: int) -> CardFinding:
    claimed = card.claimed_params
    agrees = None if claimed is None else _rounded(computed, claimed) == claimed
    return CardFinding(what="parameters", claimed=claimed, computed=computed, agrees=agrees, note="trainable values")


def _flops(claimed: int, published: int, macs: int) -> CardFinding:
    if claimed == published:
        note = "the card's own rule: multiply-adds over an image 1.27 times as wide as high, without the classifier"
        return CardFinding(what="FLOPs", claimed=claimed, computed=published, agrees=True, note=note)
    agrees = _rounded(macs, claimed) == claimed
    return CardFinding(what="FLOPs", claimed=claimed, computed=macs, agrees=agrees, note="as multiply-accumulates")


def _bytes(card: Card, tensors: int, entries: int) -> CardFinding:
    claimed = card.weights.size if card.weights else None
    agrees = None if claimed is None else 0 <= claimed - tensors <= entries * _OVERHEAD_BYTES
    note = f"bytes of {entries:,} tensors in float32; a checkpoint adds up to {_OVERHEAD_BYTES} for each"
    return CardFinding(what="file size", claimed=claimed, computed=tensors, agrees=agrees, note=note)


def _rounded(value: int, like: int) -> int:
    """`value` to as many digits as `like` has before its trailing zeros, but at least three."""
    text = str(like)
    return round(value, max(3, len(text.rstrip("0"))) - len(text))
