"""A file of weights -> a network that has them, all or none."""

from typing import TYPE_CHECKING

from zoo.cards import Card
from zoo.weights import cache
from zoo.weights.load import load_strict, parse, read_verified, to_synset_order
from zoo.weights.unwrap import unwrap, with_counters
from zoo.weights.wanted import Wanted

if TYPE_CHECKING:
    from torch import nn


def fit(network: "nn.Module", card: Card, file: Wanted) -> tuple[str, ...]:
    """Verify a file, load all of its weights into `network` and set it to evaluation mode.

    Args:
        network: A network of the card's architecture.
        card: The model.
        file: Its weights, on this machine or to be fetched.

    Returns:
        What was done to find the weights in the file, a step each.

    Raises:
        ValueError: If the file does not match its digest, or its weights do not fit.
        FileNotFoundError: If the file cannot be found or fetched.
    """
    path = cache.obtain(file)
    return fit_content(network, card, file, read_verified(path, file.sha256), str(path))


def fit_content(network: "nn.Module", card: Card, file: Wanted, data: bytes, source: str) -> tuple[str, ...]:
    """As `fit`, from the bytes of a file whose digest is verified; `source` is its name in error messages."""
    own = network.state_dict()
    found = unwrap(parse(data, source), own.keys(), file.key, source)
    state, counters = with_counters(card.network.rename(found.tensors), own)
    if file.label_order == "devkit":
        state = to_synset_order(state, card.network.classifier)
    load_strict(network, state, source)
    network.eval()
    return (*found.steps, *([counters] if counters else []))
