"""The zoo: image classifiers by name, each with a card that says what is claimed of it.

Owns the public API. Refuses to load torch before a model is created, and ever to return random weights where trained
ones were asked for.

Example:
    model = zoo.create("efficientnet_lite0", weights="card")
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cards import Card, Claim, WeightsFile
from zoo.preprocessing import Geometry, Preprocessing
from zoo.registry import card, names
from zoo.weights import load_state, load_strict, locate, read_named, read_verified

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Card", "Claim", "Geometry", "Preprocessing", "WeightsFile", "card", "create", "names", "weights_digest"]


def create(name: str, weights: str | Path | None = None, num_classes: int | None = None) -> "nn.Module":
    """Build a model.

    Args:
        name: a model id, one of `names()`.
        weights: None for the bare, randomly initialised architecture; `"card"` for the weights its card names;
            otherwise a local checkpoint, in the published keys or in ours. A digest in a file's name is verified.
        num_classes: width of the classifier; the card's where None.

    Returns:
        The model, on the CPU in float32, from normalised images (batch, 3, height, width) to logits
        (batch, num_classes): in training mode when bare, in evaluation mode when loaded.

    Raises:
        ValueError: if the model is unknown, `num_classes` is not positive, or the weights are not exactly what they
            should be.
        FileNotFoundError: if the weights are not on this machine.
    """
    chosen = card(name)
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is not a positive number")
    model = _resolve(chosen.architecture)(num_classes=chosen.num_classes if num_classes is None else num_classes)
    if weights is None:
        return model
    data, source = _read(chosen, weights)
    state = load_state(data, source)
    load_strict(model, _resolve(chosen.key_map)(state) if chosen.key_map else state, source)
    return model.eval()


def weights_digest(name: str) -> str:
    """The SHA-256 of the weights that `create(name, "card")` loads, as far as it is published: 8 to 64 hex digits.

    Its first eight digits tell cells of different weights apart, without the file at hand.

    Raises:
        ValueError: if the model is unknown or has no published weights.
    """
    published = card(name).weights
    if published is None:
        raise ValueError(f"{name}: no weights are published")
    return published.sha256


def _read(chosen: Card, weights: str | Path) -> tuple[bytes, str]:
    """The checkpoint's verified bytes and its path."""
    if weights == "card":
        path = locate(chosen)
        return read_verified(path, weights_digest(chosen.name)), str(path)
    if "://" in str(weights):
        raise FileNotFoundError(f"{weights}: the weights are not on this machine; give a local file")
    return read_named(Path(weights)), str(weights)


def _resolve(reference: str) -> Callable[..., Any]:
    """The function named by a card as `module:function`."""
    module, _, function = reference.partition(":")
    return getattr(importlib.import_module(module), function)
