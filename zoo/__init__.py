"""The zoo: image classifiers by name, each with a card of its published claims.

This is the public API. Importing it does not load torch; creating a model does. Random weights are never returned where
trained ones were requested.

Example:
    model = zoo.create("efficientnet_lite0", weights="card")
"""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cards import Card, Claim, Erratum, WeightsFile
from zoo.cards.registry import card, names, select
from zoo.preprocessing import Geometry, Preprocessing
from zoo.weights import wanted
from zoo.weights.fit import fit
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
    """Create a model.

    Args:
        model: A name, one of `names()` or `timm:NAME`; or a card, such as one read from a user's file.
        weights: None for a randomly initialised network; `"card"` for the weights that the card names, from an
            installed package, this machine's cache or the place where they are published; otherwise the local path or
            the URL of a checkpoint, with the published keys or the zoo's own. A digest in the file's name is verified.
        num_classes: Number of outputs; by default the card's number of classes.

    Returns:
        The network on the CPU in float32. It maps normalised images (batch, 3, height, width) to logits
        (batch, num_classes), with classes in the order of sorted synset ids. It is in training mode without weights and
        in evaluation mode with them.

    Raises:
        ValueError: If the model is unknown, `num_classes` is not positive, or the weights do not match their digest or
            the network.
        FileNotFoundError: If the weights cannot be found or fetched.
    """
    chosen = card(model) if isinstance(model, str) else model
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is not a positive number")
    network = chosen.network.build(chosen.num_classes if num_classes is None else num_classes)
    if weights is not None:
        fit(network, chosen, _wanted(chosen, weights))
    return network


def _wanted(chosen: Card, weights: str | Path | Wanted) -> Wanted:
    if isinstance(weights, Wanted):
        return weights
    return wanted.published(chosen) if weights == "card" else wanted.explicit(chosen, str(weights))
