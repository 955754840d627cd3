"""Random crop and mirror for training images, seeded per sample and epoch.

Whichever worker decodes an image, and however often a run is resumed, its pixels are the same. `decode` runs in the
sandbox's child process and reads images exactly as `exact_decode` does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from pipelines.pixels.exact_decode import FILTERS, DecodeError, open_rgb
from zoo.preprocessing import Interpolation

_TRIES = 10
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How pictures of a stage are cropped and mirrored.

    `scale` bounds the share of the area that a crop takes, `ratio` its width by its height; `flip` is the chance of a
    mirror image. The crop is resized to `size` x `size` pixels.
    """

    size: int
    interpolation: Interpolation
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float


@dataclass(frozen=True, slots=True)
class Chance:
    """An augmentation and the numbers that decide what it does to one picture."""

    how: Augmentation
    seed: tuple[int, ...]


def drawn(chance: Chance, width: int, height: int) -> tuple[Box, bool]:
    """The crop of a picture of this size, and whether it is mirrored.

    The crop is that of Szegedy et al. 2015 (arXiv:1409.4842, section 6): area and the logarithm of the ratio are drawn
    evenly; where none of ten draws fits into the picture, the greatest central crop of a ratio within bounds.
    """
    random, how = np.random.default_rng(chance.seed), chance.how
    mirrored = bool(random.random() < how.flip)
    low, high = map(math.log, how.ratio)
    for _ in range(_TRIES):
        area = width * height * random.uniform(*how.scale)
        ratio = math.exp(random.uniform(low, high))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = int(random.integers(width - wide + 1)), int(random.integers(height - tall + 1))
            return (left, top, left + wide, top + tall), mirrored
    wide = max(1, min(width, round(height * how.ratio[1])))
    tall = max(1, min(height, round(width / how.ratio[0])))
    left, top = (width - wide) // 2, (height - tall) // 2
    return (left, top, left + wide, top + tall), mirrored


def decode(encoded: bytes, chances: Sequence[Chance]) -> list[np.ndarray] | str:
    """One uint8 array (size, size, 3) each of `chances`, or the reason why not."""
    try:
        picture = open_rgb(encoded)
        return [_augmented(picture, chance) for chance in chances]
    except DecodeError as error:
        return str(error)


def _augmented(picture: Image.Image, chance: Chance) -> np.ndarray:
    box, mirrored = drawn(chance, picture.width, picture.height)
    side = chance.how.size
    resized = picture.resize((side, side), FILTERS[chance.how.interpolation], box=box)
    return np.asarray(ImageOps.mirror(resized) if mirrored else resized)
