"""`fast` decoding, one picture: libjpeg-turbo without a detour, ATen's resize. Runs in the sandbox's child.

Owns another arithmetic for the rule of `exact_decode`: the same crop, filters and reasons. JPEGs are decoded to the
pixels of `exact`, since libjpeg-turbo's cheaper transform and upsampling save a hundredth of the time and move pixels
by 70. The resize has 16-bit weights in vector registers and takes a fifth of Pillow's time; it moves a pixel in 300 by
1, none by more than 2. Refuses to decode at a smaller scale: pixels would depend on what else is wanted of a picture,
and no scale but halves is faster. Costs 150 MB and 0.8 s of start a process more than `exact`, for torch.
"""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import simplejpeg
import torch
from torch.nn.functional import interpolate

from pipelines.pixels.exact_decode import DecodeError, open_header, placed, reasons, to_rgb
from zoo.preprocessing import Geometry

torch.set_num_threads(1)  # there is one such process for every core


def decode(encoded: bytes, geometries: Sequence[Geometry]) -> list[np.ndarray] | str:
    """One uint8 array (size, size, 3) a geometry, or the reason why not, as `exact_decode.decode`."""
    try:
        pixels_HWC = open_rgb(encoded)
        return [resize_and_crop(pixels_HWC, geometry) for geometry in geometries]
    except DecodeError as error:
        return str(error)


def open_rgb(encoded: bytes) -> np.ndarray:
    """The picture in `encoded`: uint8 (H, W, 3), the pixels of `exact_decode.open_rgb`.

    Raises:
        DecodeError: as `exact_decode.open_rgb`.
    """
    with reasons():
        picture = open_header(encoded)
        if picture.format in {"JPEG", "MPO"} and picture.mode in {"RGB", "L"}:
            with suppress(ValueError):  # damaged, or of a kind it does not know: Pillow has the last word
                return simplejpeg.decode_jpeg(encoded, "RGB", strict=True)
        return np.array(to_rgb(picture))


@torch.inference_mode()
def resize_and_crop(pixels_HWC: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Short side to `geometry.resize` pixels, then the central square: uint8 (size, size, 3).

    Raises:
        DecodeError: as `exact_decode.resize_and_crop`.
    """
    height, width = pixels_HWC.shape[:2]
    (width, height), (left, top) = placed((width, height), geometry)
    x_BCHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None]  # a view: channels last is what ATen has registers for
    resized_BCHW = interpolate(x_BCHW, (height, width), mode=geometry.interpolation, antialias=True)
    return resized_BCHW[0].permute(1, 2, 0).numpy()[top : top + geometry.size, left : left + geometry.size]
