"""Encoded images -> one uint8 array (size, size, 3) per view and image, or the reason why there is none.

Every sample keeps its place in the chunk, and pixels are written once, where Arrow has them. The decoders themselves,
`exact_decode` and `fast_decode`, run in child processes, see `sandbox`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from pipelines.pixels.decoded import decoded_schema, decoded_table
from pipelines.pixels.sandbox import Sandbox
from pipelines.records import Decoder, View

_SANDBOXES: dict[Decoder, Sandbox] = {
    "exact": Sandbox("pipelines.pixels.exact_decode"),
    "fast": Sandbox("pipelines.pixels.fast_decode"),
}


def decode_chunks(chunks: pa.Table, views: Sequence[View]) -> pa.Table:
    """CHUNK rows as decoded chunks, with pixels and errors for each of `views`; see `decoded.decoded_schema`.

    Where there is an error, the pixels are zeros: an image that cannot be decoded still takes its place in the batch,
    so that the places of its neighbours do not depend on it. Each view has errors of its own, as if it were the only
    one: an image can be too long for one geometry alone.

    Raises:
        RuntimeError: if a process that decodes cannot be started.
    """
    decoded = [_decode_chunk(chunks.slice(row, 1), views) for row in range(len(chunks))]
    return pa.concat_tables([decoded_schema(len(views)).empty_table(), *decoded])


def _decode_chunk(chunk: pa.Table, views: Sequence[View]) -> pa.Table:
    images, unread = chunk["images"][0].values, chunk["errors"][0].as_py()
    errors: list[list[str | None]] = [list(unread) for _ in views]
    sizes = [view.geometry.size for view in views]
    buffers = [pa.allocate_buffer(len(images) * size * size * 3) for size in sizes]
    # Arrow's buffers have the buffer protocol, which their stub lacks.
    pixels = [
        np.frombuffer(cast(memoryview, buffer), np.uint8).reshape(len(images), size, size, 3)
        for buffer, size in zip(buffers, sizes, strict=True)
    ]
    for row, image in enumerate(images):
        into = [array[row] for array in pixels]
        if unread[row] is None:
            for of_view, error in zip(errors, _decode_image(image.as_buffer(), views, into), strict=True):
                of_view[row] = error
        for of_view, array in zip(errors, into, strict=True):
            if of_view[row] is not None:
                array[:] = 0
    return decoded_table(chunk, buffers, errors)


def _decode_image(encoded: pa.Buffer, views: Sequence[View], into: Sequence[np.ndarray]) -> list[str | None]:
    """Fill `into`, one array per view, with one call of each decoder; the errors by view."""
    by_decoder: defaultdict[Decoder, list[int]] = defaultdict(list)
    for place, view in enumerate(views):
        by_decoder[view.decoder].append(place)
    errors: list[str | None] = [None] * len(views)
    for decoder, places in by_decoder.items():
        for place, error in zip(places, _decode_with(decoder, encoded, places, views, into), strict=True):
            errors[place] = error
    return errors


def _decode_with(
    decoder: Decoder, encoded: pa.Buffer, places: Sequence[int], views: Sequence[View], into: Sequence[np.ndarray]
) -> list[str | None]:
    geometries, arrays = [views[place].geometry for place in places], [into[place] for place in places]
    error = _SANDBOXES[decoder].decode(memoryview(encoded), geometries, arrays)
    if error is None or len(places) == 1:
        return [error] * len(places)
    # The error may concern one view alone, and limits of time and memory are for all of them together.
    return [_decode_with(decoder, encoded, [place], views, into)[0] for place in places]
