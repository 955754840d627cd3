"""Small files of weights for tests, and cards that publish them."""

import dataclasses
import hashlib
import io

import torch
from torch import Tensor

import zoo

BASE = zoo.card("efficientnet_lite0")


def saved(state: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def published(url: str, data: bytes, digits: int = 8) -> zoo.Card:
    """A card of a model with two classes; the name of its weights, at `url`, has their digest."""
    digest = hashlib.sha256(data).hexdigest()[:digits]
    file = zoo.WeightsFile(location=f"{url}/student-{digest}.pth", sha256=digest, license="MIT")
    return dataclasses.replace(BASE, name="student", num_classes=2, weights=file)


def place(card: zoo.Card) -> str:
    assert card.weights is not None
    return "/" + card.weights.location.rpartition("/")[2]
