"""Bytes -> one uint8 HWC array per geometry, or a reason why not.

Owns the rule by which pixels are read, `exact` mode: Pillow, as timm's published numbers were measured. First frame,
no EXIF rotation, `convert("RGB")` (alpha is dropped, CMYK and palettes converted); 16-bit greyscale is scaled to 8,
since `convert` would clip it. Refuses what is not JPEG, PNG or WebP, and a picture whose pixels would not fit: that is
seen in its header, before anything is decoded. Chunks are decoded in a child process, see `sandbox`.
"""

import io
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from pipelines.records import CHUNK, View
from pipelines.sandbox import Sandbox
from zoo.preprocessing import Geometry

MAX_PIXELS = 50_000_000
"""A 12 KB PNG can ask for 1 GB. The largest photograph in ImageNet has 20 million pixels."""
_FORMATS = ("JPEG", "PNG", "WEBP")
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")

# Pillow's own guard warns above 89 million pixels and raises above 179; ours is lower and gives a reason.
Image.MAX_IMAGE_PIXELS = None


class DecodeError(Exception):
    """A picture that cannot be read; the message is `reason: detail`, as the `error` column holds it."""


def decode_chunks(chunks: pa.Table, views: Sequence[View]) -> pa.Table:
    """CHUNK rows with `images` decoded into a column `pixels_I` for the I-th view, and `errors` completed.

    A `pixels_I` value is the raw bytes of a uint8 array (samples, size, size, 3), zeros where there is an error: a
    row that cannot be read still takes its place in the batch, so that its neighbours' places do not depend on it.

    Raises:
        RuntimeError: if the process that decodes cannot be started.
    """
    geometries = [view.geometry for view in views]
    rows = [_decode_chunk(row, geometries) for row in chunks.to_pylist()]
    return pa.Table.from_pylist(rows, schema=decoded_schema(len(views)))


def decoded_schema(views: int) -> pa.Schema:
    """CHUNK without `images` and with one `pixels_I` a view."""
    kept = CHUNK.remove(CHUNK.get_field_index("images"))
    return pa.schema([*kept, *(pa.field(f"pixels_{i}", pa.large_binary()) for i in range(views))])


def _decode_chunk(chunk: dict, geometries: Sequence[Geometry]) -> dict:
    images, errors = chunk.pop("images"), list(chunk["errors"])
    pixels = [np.zeros((len(images), g.size, g.size, 3), np.uint8) for g in geometries]
    for row, encoded in enumerate(images):
        if errors[row] is not None:
            continue
        errors[row] = _SANDBOX.decode(encoded, geometries, [array[row] for array in pixels])
        if errors[row] is not None:
            for array in pixels:
                array[row] = 0
    return chunk | {"errors": errors} | {f"pixels_{i}": array.tobytes() for i, array in enumerate(pixels)}


def _decode(encoded: bytes, geometries: Sequence[Geometry]) -> list[np.ndarray] | str:
    try:
        picture = open_rgb(encoded)
        return [resize_and_crop(picture, geometry) for geometry in geometries]
    except DecodeError as error:
        return str(error)


_SANDBOX = Sandbox(_decode)


def open_rgb(encoded: bytes) -> Image.Image:
    """The picture in `encoded`, decoded to RGB by the rule above.

    Raises:
        DecodeError: if it is empty, of another format, broken, or over MAX_PIXELS.
    """
    if not encoded:
        raise DecodeError("empty file")
    try:
        picture = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        _check_pixels(picture.width, picture.height, "")
        return _to_rgb(picture)
    except UnidentifiedImageError:
        raise DecodeError(f"not an image: the bytes are not {', '.join(_FORMATS)}") from None
    except (DecodeError, MemoryError):  # whether memory is the picture's fault the sandbox finds out
        raise
    except Exception as error:  # the bytes are hostile, and codecs raise whatever they like on them
        raise DecodeError(f"broken image: {type(error).__name__}: {_ADDRESS.sub('', str(error))}") from error


def resize_and_crop(picture: Image.Image, geometry: Geometry) -> np.ndarray:
    """Short side to `geometry.resize` pixels, then the central square: uint8 (size, size, 3).

    The roundings are torchvision's `Resize` and `CenterCrop`, with which the published numbers were measured.

    Raises:
        DecodeError: if the picture is so long that its resized form is over MAX_PIXELS.
    """
    short, long = sorted(picture.size)
    long = int(geometry.resize * long / short)
    _check_pixels(geometry.resize, long, " after resizing")
    portrait = picture.width < picture.height
    width, height = (geometry.resize, long) if portrait else (long, geometry.resize)
    resized = picture.resize((width, height), _FILTERS[geometry.interpolation])
    left, top = round((width - geometry.size) / 2.0), round((height - geometry.size) / 2.0)
    return np.asarray(resized.crop((left, top, left + geometry.size, top + geometry.size)))


def _check_pixels(width: int, height: int, when: str) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"too many pixels: {width}x{height}{when} is over {MAX_PIXELS}")


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.uint32)
        picture = Image.fromarray(((deep.clip(0, 65535) + 128) // 257).astype(np.uint8))
    picture.info.pop("transparency", None)  # convert() would only warn of it; alpha is dropped in any case
    return picture.convert("RGB")
