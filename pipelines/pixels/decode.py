"""Bytes -> one uint8 HWC array per view, or a reason why not.

Owns the chunk: that every row keeps its place, and that pixels are written once, where Arrow has them. Refuses to touch
a picture: each decoder is a module (`exact_decode`, `fast_decode`) that is imported by a child process, see `sandbox`.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.pixels.sandbox import Sandbox
from pipelines.records import CHUNK, Decoder, View

_SANDBOXES: dict[Decoder, Sandbox] = {
    "exact": Sandbox("pipelines.pixels.exact_decode"),
    "fast": Sandbox("pipelines.pixels.fast_decode"),
}


def decode_chunks(chunks: pa.Table, views: Sequence[View]) -> pa.Table:
    """CHUNK rows with `images` decoded into a column `pixels_I` for the I-th view, and its errors in `errors_I`.

    A `pixels_I` value is the raw bytes of a uint8 array (samples, size, size, 3), zeros where there is an error: a
    row that cannot be read still takes its place in the batch, so that its neighbours' places do not depend on it. Each
    view has errors of its own, as if it were the only one: a picture can be too long for one geometry alone.

    Raises:
        RuntimeError: if a process that decodes cannot be started.
    """
    decoded = [_decode_chunk(chunks.slice(row, 1), views) for row in range(len(chunks))]
    return pa.concat_tables([decoded_schema(len(views)).empty_table(), *decoded])


def decoded_schema(views: int) -> pa.Schema:
    """CHUNK without `images` and `errors`, and with one `pixels_I` and `errors_I` a view."""
    kept = [field for field in CHUNK if field.name not in {"images", "errors"}]
    pixels = [pa.field(f"pixels_{i}", pa.large_binary()) for i in range(views)]
    return pa.schema([*kept, *pixels, *(pa.field(f"errors_{i}", pa.list_(pa.string())) for i in range(views))])


def _decode_chunk(chunk: pa.Table, views: Sequence[View]) -> pa.Table:
    images, unread = chunk["images"][0].values, chunk["errors"][0].as_py()
    errors = [list(unread) for _ in views]
    sizes = [view.geometry.size for view in views]
    buffers = [pa.allocate_buffer(len(images) * size * size * 3) for size in sizes]
    pixels = [
        np.frombuffer(buffer, np.uint8).reshape(len(images), size, size, 3)
        for buffer, size in zip(buffers, sizes, strict=True)
    ]
    for row, image in enumerate(images):
        into = [array[row] for array in pixels]
        if unread[row] is None:
            for of_view, error in zip(errors, _decode_picture(image.as_buffer(), views, into), strict=True):
                of_view[row] = error
        for of_view, array in zip(errors, into, strict=True):
            if of_view[row] is not None:
                array[:] = 0
    kept = {name: chunk[name] for name in CHUNK.names if name not in {"images", "errors"}}
    kept |= {f"pixels_{i}": one_value(buffer) for i, buffer in enumerate(buffers)}
    return pa.table(kept | {f"errors_{i}": [some] for i, some in enumerate(errors)}, schema=decoded_schema(len(views)))


def _decode_picture(encoded: pa.Buffer, views: Sequence[View], into: Sequence[np.ndarray]) -> list[str | None]:
    """Fill `into`, an array a view, each decoder at work once; why not, of each view."""
    by_decoder: defaultdict[Decoder, list[int]] = defaultdict(list)
    for place, view in enumerate(views):
        by_decoder[view.decoder].append(place)
    errors: list[str | None] = [None] * len(views)
    for decoder, places in by_decoder.items():
        for place, error in zip(places, _decode_by(decoder, encoded, places, views, into), strict=True):
            errors[place] = error
    return errors


def _decode_by(
    decoder: Decoder, encoded: pa.Buffer, places: Sequence[int], views: Sequence[View], into: Sequence[np.ndarray]
) -> list[str | None]:
    geometries, arrays = [views[place].geometry for place in places], [into[place] for place in places]
    error = _SANDBOXES[decoder].decode(memoryview(encoded), geometries, arrays)
    if error is None or len(places) == 1:
        return [error] * len(places)
    # It may be of one view alone, and limits of time and memory are for all of them together.
    return [_decode_by(decoder, encoded, [place], views, into)[0] for place in places]


def one_value(content: pa.Buffer) -> pa.Array:
    """A column of the one value `content`, which is not copied."""
    ends = pa.py_buffer(np.array([0, content.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, content])
