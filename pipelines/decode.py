"""Bytes -> one uint8 HWC array per view, or a reason why not.

Owns the chunk: that every row keeps its place, and that pixels are written once, where Arrow has them. Refuses to touch
a picture: each decoder is a module (`exact_decode`, `fast_decode`) that is imported by a child process, see `sandbox`.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.records import CHUNK, Decoder, View
from pipelines.sandbox import Sandbox

_SANDBOXES: dict[Decoder, Sandbox] = {
    "exact": Sandbox("pipelines.exact_decode"),
    "fast": Sandbox("pipelines.fast_decode"),
}


def decode_chunks(chunks: pa.Table, views: Sequence[View]) -> pa.Table:
    """CHUNK rows with `images` decoded into a column `pixels_I` for the I-th view, and `errors` completed.

    A `pixels_I` value is the raw bytes of a uint8 array (samples, size, size, 3), zeros where there is an error: a
    row that cannot be read still takes its place in the batch, so that its neighbours' places do not depend on it.

    Raises:
        RuntimeError: if a process that decodes cannot be started.
    """
    decoded = [_decode_chunk(chunks.slice(row, 1), views) for row in range(len(chunks))]
    return pa.concat_tables([decoded_schema(len(views)).empty_table(), *decoded])


def decoded_schema(views: int) -> pa.Schema:
    """CHUNK without `images` and with one `pixels_I` a view."""
    kept = CHUNK.remove(CHUNK.get_field_index("images"))
    return pa.schema([*kept, *(pa.field(f"pixels_{i}", pa.large_binary()) for i in range(views))])


def _decode_chunk(chunk: pa.Table, views: Sequence[View]) -> pa.Table:
    images, errors = chunk["images"][0].values, chunk["errors"][0].as_py()
    sizes = [view.geometry.size for view in views]
    buffers = [pa.allocate_buffer(len(images) * size * size * 3) for size in sizes]
    pixels = [
        np.frombuffer(buffer, np.uint8).reshape(len(images), size, size, 3)
        for buffer, size in zip(buffers, sizes, strict=True)
    ]
    for row, image in enumerate(images):
        if errors[row] is None:
            errors[row] = _decode_picture(memoryview(image.as_buffer()), views, [array[row] for array in pixels])
        if errors[row] is not None:
            for array in pixels:
                array[row] = 0
    kept = {name: chunk[name] for name in CHUNK.names if name != "images"}
    columns = kept | {"errors": [errors]} | {f"pixels_{i}": _one_value(buffer) for i, buffer in enumerate(buffers)}
    return pa.table(columns, schema=decoded_schema(len(views)))


def _decode_picture(encoded: memoryview, views: Sequence[View], into: Sequence[np.ndarray]) -> str | None:
    """Fill `into`, an array a view, each decoder at work once; the reason of the first that cannot."""
    by_decoder: defaultdict[Decoder, list[int]] = defaultdict(list)
    for place, view in enumerate(views):
        by_decoder[view.decoder].append(place)
    for decoder, places in by_decoder.items():
        geometries = [views[place].geometry for place in places]
        error = _SANDBOXES[decoder].decode(encoded, geometries, [into[place] for place in places])
        if error is not None:
            return error
    return None


def _one_value(content: pa.Buffer) -> pa.Array:
    """A column of the one value `content`, which is not copied."""
    ends = pa.py_buffer(np.array([0, content.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, content])
