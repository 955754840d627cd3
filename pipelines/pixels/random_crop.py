"""Random crop and mirror for training images, seeded per sample and epoch.

Whichever worker decodes an image, and however often a training is resumed, its pixels are the same. `decode` runs in
the sandbox's child process and reads images exactly as `exact_decode` does.
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
"""Left, top, right and bottom in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How the images of a stage of a training are cropped and mirrored.

    Attributes:
        size: the crop is resized to `size` x `size` pixels.
        interpolation: of that resize.
        scale: least and greatest share of the image's area that a crop takes.
        ratio: least and greatest width of a crop divided by its height.
        flip: probability of a mirror image.
    """

    size: int
    interpolation: Interpolation
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float


@dataclass(frozen=True, slots=True)
class Chance:
    """An augmentation, and the seed that decides what it does to one image."""

    how: Augmentation
    seed: tuple[int, ...]


def drawn(chance: Chance, width: int, height: int) -> tuple[Box, bool]:
    """The crop of an image of this size in pixels, and whether it is mirrored.

    The crop is that of Szegedy et al. 2015 (arXiv:1409.4842, section 6): the area and the logarithm of the ratio are
    drawn uniformly. If none of ten draws fits into the image, it is the largest central crop with a ratio in the range.
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
    """One uint8 array (size, size, 3) for each of `chances`, or the reason why there is none."""
    try:
        image = open_rgb(encoded)
        return [_augmented(image, chance) for chance in chances]
    except DecodeError as error:
        return str(error)


def _augmented(image: Image.Image, chance: Chance) -> np.ndarray:
    box, mirrored = drawn(chance, image.width, image.height)
    side = chance.how.size
    resized = image.resize((side, side), FILTERS[chance.how.interpolation], box=box)
    return np.asarray(ImageOps.mirror(resized) if mirrored else resized)
