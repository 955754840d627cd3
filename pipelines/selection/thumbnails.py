"""Thumbnails of chosen images, for the contact sheets in `pictures`.

A module of its own, since workers cut thumbnails and must not load Matplotlib.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipelines.pixels.sandbox import Sandbox
from zoo.preprocessing import Geometry

GEOMETRY = Geometry(size=112, resize=112, interpolation="bilinear")
SCHEMA = pa.schema(
    [
        ("label", pa.int16()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("pixels", pa.binary()),  # uint8 (size, size, 3) of GEOMETRY; empty where the image cannot be decoded
    ]
)


class Ranked(Protocol):
    """An image with its place in a selection."""

    @property
    def image(self) -> bytes:
        """Its bytes."""
        ...

    @property
    def label(self) -> int:
        """The class that it was chosen for."""
        ...

    @property
    def rank(self) -> int:
        """Its rank there, from 1."""
        ...

    @property
    def score(self) -> float:
        """Its score there."""
        ...


def thumbnail_rows(images: Sequence[Ranked]) -> pa.Table:
    """SCHEMA rows of `images`; an image that cannot be decoded has no pixels."""
    sandbox = Sandbox("pipelines.pixels.exact_decode")
    try:
        columns: list[Any] = [[getattr(image, name) for image in images] for name in ("label", "rank", "score")]
        columns.append([_pixels(sandbox, image.image) for image in images])
        return pa.table(columns, schema=SCHEMA)
    finally:
        sandbox.close()


def _pixels(sandbox: Sandbox, image: bytes) -> bytes:
    pixels = np.zeros((GEOMETRY.size, GEOMETRY.size, 3), np.uint8)
    return b"" if sandbox.decode(image, [GEOMETRY], [pixels]) else pixels.tobytes()
