"""Pictures for tests, and the chunks in which they are decoded.

The reference for pixels is torchvision's rule, written out with plain Pillow.
"""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.pixels import decode
from pipelines.pixels.decoded import decoded_schema
from pipelines.records import CHUNK, Decoder, View
from zoo.preprocessing import Geometry

SMALL = Geometry(32, 36, "bicubic")


def exact(*geometries: Geometry) -> list[View]:
    return [View("exact", geometry) for geometry in geometries]


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth and coarse at once, so that codecs, filters and a shift by one pixel all leave their mark."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    bands = [
        (np.sin(x / (3 + b)) * 60 + np.cos(y / (2 + b)) * 60 + rng.integers(0, 16, x.shape) + 120) for b in range(4)
    ]
    array = np.stack(bands, axis=-1).astype(np.uint8)
    if mode in {"1", "P"}:
        return Image.fromarray(array[..., :3]).convert(mode)
    count = len(Image.new(mode, (1, 1)).getbands())
    return Image.merge(mode, [Image.fromarray(array[..., band]) for band in range(count)])


def encoded(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def reference(picture: Image.Image, geometry: Geometry) -> np.ndarray:
    """torchvision's Resize and CenterCrop, written out."""
    width, height = picture.size
    if width <= height:
        width, height = geometry.resize, int(geometry.resize * height / width)
    else:
        width, height = int(geometry.resize * width / height), geometry.resize
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    array = np.array(picture.resize((width, height), filters[geometry.interpolation]))
    top, left = int(round((height - geometry.size) / 2.0)), int(round((width - geometry.size) / 2.0))  # noqa: RUF046
    return array[top : top + geometry.size, left : left + geometry.size]


def chunk(images: Sequence[bytes | None], errors: Sequence[str | None] | None = None) -> pa.Table:
    row = {"shard": 3, "start": 64, "last": True, "failure": None, "images": images}
    row |= {"keys": [str(i) for i in range(len(images))], "labels": list(range(len(images)))}
    row |= {"offsets": [512 * i for i in range(len(images))], "digests": list(range(len(images)))}
    return pa.Table.from_pylist([row | {"errors": errors or [None] * len(images)}], schema=CHUNK)


def decoded(
    images: Sequence[bytes | None], geometries: Sequence[Geometry], decoder: Decoder = "exact"
) -> tuple[list[np.ndarray], list[str | None]]:
    table = decode.decode_chunks(chunk(images), [View(decoder, geometry) for geometry in geometries])
    assert table.schema == decoded_schema(len(geometries))
    row = table.to_pylist()[0]
    arrays = [
        np.frombuffer(row[f"pixels_{i}"], np.uint8).reshape(len(images), geometry.size, geometry.size, 3)
        for i, geometry in enumerate(geometries)
    ]
    return arrays, row["errors_0"]


def pixels(image: bytes, geometry: Geometry = SMALL) -> np.ndarray:
    (array,), (error,) = decoded([image], [geometry])
    assert error is None
    return array[0]


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG written by hand: its header may promise what its data does not hold."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(data)) + part(b"IEND", b"")


GOOD = encoded(noise(50, 40), "JPEG")


GOOD_PIXELS = reference(Image.open(io.BytesIO(GOOD)), SMALL)
