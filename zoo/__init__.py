"""The zoo: image classifiers by name, each with a card that says what is claimed of it.

Owns the public API. Refuses to load torch before a model is created, and ever to return random weights where trained
ones were asked for.

Example:
    model = zoo.create("efficientnet_lite0", weights="card")
"""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cards import Card, Claim, Erratum, WeightsFile
from zoo.cards.registry import card, names, select
from zoo.preprocessing import Geometry, Preprocessing
from zoo.weights import cache, wanted
from zoo.weights.load import in_our_order, load_strict, parse, read_verified
from zoo.weights.wanted import Wanted

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Card",
    "Claim",
    "Erratum",
    "Geometry",
    "Preprocessing",
    "Wanted",
    "WeightsFile",
    "card",
    "create",
    "names",
    "select",
]


def create(
    model: str | Card, weights: str | Path | Wanted | None = None, num_classes: int | None = None
) -> "nn.Module":
    """Build a model.

    Args:
        model: a model id, one of `names()`, or a card (a user's).
        weights: None for the bare, randomly initialised architecture; `"card"` for the weights its card names, from an
            installed package, this machine's cache or where they are published; otherwise a checkpoint, a local path
            or a URL, in the published keys or in ours. A digest in a file's name is verified.
        num_classes: width of the classifier; the card's where None.

    Returns:
        The model, on the CPU in float32, from normalised images (batch, 3, height, width) to logits
        (batch, num_classes), classes in the order of sorted synsets: in training mode when bare, in evaluation mode
        when loaded.

    Raises:
        ValueError: if the model is unknown, `num_classes` is not positive, or the weights are not exactly what they
            should be.
        FileNotFoundError: if the weights are nowhere to be had.
    """
    chosen = card(model) if isinstance(model, str) else model
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is not a positive number")
    network = chosen.network.build(chosen.num_classes if num_classes is None else num_classes)
    if weights is not None:
        _load(network, chosen, _wanted(chosen, weights))
    return network


def _wanted(chosen: Card, weights: str | Path | Wanted) -> Wanted:
    if isinstance(weights, Wanted):
        return weights
    return wanted.published(chosen) if weights == "card" else wanted.explicit(chosen, str(weights))


def _load(network: "nn.Module", chosen: Card, file: Wanted) -> None:
    """Fill `network` from `file`, verified and whole, and set it to evaluation."""
    path = cache.obtain(file)
    state = chosen.network.rename(parse(read_verified(path, file.sha256), str(path)))
    if file.label_order == "devkit":
        state = in_our_order(state, chosen.network.classifier)
    load_strict(network, state, str(path))
    network.eval()
