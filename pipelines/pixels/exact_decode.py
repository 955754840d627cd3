"""`exact` decoding of one image: Pillow, as timm's published numbers were measured. Runs in the sandbox's child.

The rule: first frame, no EXIF rotation, `convert("RGB")` (alpha is dropped, CMYK and palettes are converted); 16-bit
greyscale is scaled to 8 bits, since `convert` would clip it. An image of another format is an error, and so is one with
pixels of a kind that `convert` would clip, or with too many, which its header shows before anything is decoded.
"""

import io
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from zoo.preprocessing import Geometry

MAX_PIXELS = 50_000_000
"""A PNG of 12 KB can need 1 GB. The largest photograph in ImageNet has 20 million pixels."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_CLIPPED_MODES = ("F", "I", "LAB")
"""Of TIFF: floating-point and 32-bit numbers have no known white."""
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""In messages of codecs; it would make the same error differ from one attempt to the next."""

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is one such process for every core
# Pillow's own limit warns above 89 million pixels and raises above 179 million; MAX_PIXELS is lower and gives a reason.
Image.MAX_IMAGE_PIXELS = None


class DecodeError(Exception):
    """An image that cannot be decoded; the message is `reason: detail`, as the `error` column holds it."""


class Placement(NamedTuple):
    """An image after resizing, and the corner of the square that is cropped from it, in pixels."""

    width: int
    height: int
    left: int
    top: int


def decode(encoded: bytes, geometries: Sequence[Geometry]) -> list[np.ndarray] | str:
    """One uint8 array (size, size, 3) per geometry, or the reason why there is none."""
    try:
        image = open_rgb(encoded)
        return [resize_and_crop(image, geometry) for geometry in geometries]
    except DecodeError as error:
        return str(error)


def open_rgb(encoded: bytes) -> Image.Image:
    """The image in `encoded`, decoded to RGB by the rule above.

    Raises:
        DecodeError: if it is empty, of another format, broken, or over MAX_PIXELS.
    """
    with reasons():
        return to_rgb(open_header(encoded))


def open_header(encoded: bytes) -> Image.Image:
    """The image in `encoded`, of which Pillow has read only the header. Call it within `reasons`."""
    if not encoded:
        raise DecodeError("empty file")
    image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
    _check_pixels(image.width, image.height, "")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The image, decoded and converted by the rule above. Call it within `reasons`."""
    if image.format == "TIFF" and image.mode in _CLIPPED_MODES:
        raise DecodeError(f"unusual pixels: a TIFF of mode {image.mode}; save it with 8 bits a channel")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((deep.clip(0, 65535) + 128) // 257).astype(np.uint8))
    image.info.pop("transparency", None)  # convert() would only warn about it; alpha is dropped in any case
    return image.convert("RGB")


@contextmanager
def reasons() -> Generator[None, None, None]:
    """Turn whatever decoding raises into a DecodeError."""
    try:
        yield
    except UnidentifiedImageError:
        raise DecodeError(f"not an image: the bytes are not {', '.join(_FORMATS)}") from None
    except (DecodeError, MemoryError):  # the sandbox finds out whether the image is to blame for a lack of memory
        raise
    except Exception as error:  # the bytes may be hostile, and codecs raise anything on them
        raise DecodeError(f"broken image: {type(error).__name__}: {_ADDRESS.sub('', str(error))}") from error


def resize_and_crop(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """Resize the short side to `geometry.resize` pixels and crop the central square: uint8 (size, size, 3).

    The whole image is resized although the crop drops a third of it. Resizing a `box` alone would change pixels: its
    corners are 32-bit floats, and Pillow chooses the order of its two passes, with a rounding in between, by cost.

    Raises:
        DecodeError: if the image is so long that it has over MAX_PIXELS after resizing.
    """
    place = placement(image.size, geometry)
    resized = image.resize((place.width, place.height), FILTERS[geometry.interpolation])
    return np.asarray(resized.crop((place.left, place.top, place.left + geometry.size, place.top + geometry.size)))


def placement(size: tuple[int, int], geometry: Geometry) -> Placement:
    """Where the central square of an image of `size` (width, height) lies after resizing.

    Sizes are rounded as torchvision's `Resize` and `CenterCrop` do, with which the published numbers were measured.

    Raises:
        DecodeError: if the image has over MAX_PIXELS after resizing.
    """
    short, long = sorted(size)
    long = int(geometry.resize * long / short)
    _check_pixels(geometry.resize, long, " after resizing")
    width, height = (geometry.resize, long) if size[0] < size[1] else (long, geometry.resize)
    left, top = round((width - geometry.size) / 2.0), round((height - geometry.size) / 2.0)
    return Placement(width, height, left, top)


def _check_pixels(width: int, height: int, when: str) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"too many pixels: {width}x{height}{when} is over {MAX_PIXELS}")
