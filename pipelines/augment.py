"""What chance does to a picture on its way to a model that learns: a random crop, a mirror.

Owns the choice, a function of the sample and the epoch by way of a seed: whichever worker decodes it, and however often
a run is resumed, the pixels are the same. Refuses to touch a picture: `train_decode` does.
"""

import math
from dataclasses import dataclass

import numpy as np

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
