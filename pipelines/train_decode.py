"""Decoding for training, one picture: the bytes as `exact_decode` reads them, then what chance does to them.

Runs in the sandbox's child. Owns nothing but the order of the two. Refuses what `exact_decode` refuses.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from pipelines.augment import Chance, drawn
from pipelines.exact_decode import FILTERS, DecodeError, open_rgb


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
