"""`exact` decoding, one picture: Pillow, as timm's published numbers were measured. Runs in the sandbox's child.

Owns the rule by which pixels are read. First frame, no EXIF rotation, `convert("RGB")` (alpha is dropped, CMYK and
palettes converted); 16-bit greyscale is scaled to 8, since `convert` would clip it. Refuses what is not JPEG, PNG or
WebP, and a picture whose pixels would not fit: that is seen in its header, before anything is decoded.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo.preprocessing import Geometry

MAX_PIXELS = 50_000_000
"""A 12 KB PNG can ask for 1 GB. The largest photograph in ImageNet has 20 million pixels."""
_FORMATS = ("JPEG", "PNG", "WEBP")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")

# Pillow's own guard warns above 89 million pixels and raises above 179; ours is lower and gives a reason.
Image.MAX_IMAGE_PIXELS = None


class DecodeError(Exception):
    """A picture that cannot be read; the message is `reason: detail`, as the `error` column holds it."""


def decode(encoded: bytes, geometries: Sequence[Geometry]) -> list[np.ndarray] | str:
    """One uint8 array (size, size, 3) a geometry, or the reason why not."""
    try:
        picture = open_rgb(encoded)
        return [resize_and_crop(picture, geometry) for geometry in geometries]
    except DecodeError as error:
        return str(error)


def open_rgb(encoded: bytes) -> Image.Image:
    """The picture in `encoded`, decoded to RGB by the rule above.

    Raises:
        DecodeError: if it is empty, of another format, broken, or over MAX_PIXELS.
    """
    with reasons():
        return to_rgb(open_header(encoded))


def open_header(encoded: bytes) -> Image.Image:
    """The picture in `encoded`, of which Pillow has read no more than the header; within `reasons`."""
    if not encoded:
        raise DecodeError("empty file")
    picture = Image.open(io.BytesIO(encoded), formats=_FORMATS)
    _check_pixels(picture.width, picture.height, "")
    return picture


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture, decoded and converted by the rule above; within `reasons`."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.uint32)
        picture = Image.fromarray(((deep.clip(0, 65535) + 128) // 257).astype(np.uint8))
    picture.info.pop("transparency", None)  # convert() would only warn of it; alpha is dropped in any case
    return picture.convert("RGB")


@contextmanager
def reasons() -> Iterator[None]:
    """Makes a DecodeError of whatever reading a picture raises."""
    try:
        yield
    except UnidentifiedImageError:
        raise DecodeError(f"not an image: the bytes are not {', '.join(_FORMATS)}") from None
    except (DecodeError, MemoryError):  # whether memory is the picture's fault the sandbox finds out
        raise
    except Exception as error:  # the bytes are hostile, and codecs raise whatever they like on them
        raise DecodeError(f"broken image: {type(error).__name__}: {_ADDRESS.sub('', str(error))}") from error


def resize_and_crop(picture: Image.Image, geometry: Geometry) -> np.ndarray:
    """Short side to `geometry.resize` pixels, then the central square: uint8 (size, size, 3).

    In one call, though the crop throws a third away: a `box` would move pixels (it is of 32-bit floats), and which of
    its two passes Pillow makes first, with a rounding in between, it decides by costs of its own.

    Raises:
        DecodeError: if the picture is so long that its resized form is over MAX_PIXELS.
    """
    size, (left, top) = placed(picture.size, geometry)
    resized = picture.resize(size, FILTERS[geometry.interpolation])
    return np.asarray(resized.crop((left, top, left + geometry.size, top + geometry.size)))


def placed(size: tuple[int, int], geometry: Geometry) -> tuple[tuple[int, int], tuple[int, int]]:
    """(Width, height) of a picture of `size` when it is resized, and (left, top) of the central square in that.

    The roundings are torchvision's `Resize` and `CenterCrop`, with which the published numbers were measured.

    Raises:
        DecodeError: if the resized form is over MAX_PIXELS.
    """
    short, long = sorted(size)
    long = int(geometry.resize * long / short)
    _check_pixels(geometry.resize, long, " after resizing")
    width, height = (geometry.resize, long) if size[0] < size[1] else (long, geometry.resize)
    return (width, height), (round((width - geometry.size) / 2.0), round((height - geometry.size) / 2.0))


def _check_pixels(width: int, height: int, when: str) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"too many pixels: {width}x{height}{when} is over {MAX_PIXELS}")
