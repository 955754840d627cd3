"""Decoded chunks: the columns in which pixels travel from the decoder to models.

The names of these columns are known here alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from pipelines.records import CHUNK, View

_REPLACED = {"images", "errors"}
_KEPT = [name for name in CHUNK.names if name not in _REPLACED]


def decoded_schema(views: int) -> pa.Schema:
    """CHUNK with a column of pixels and one of errors for each view, in place of `images` and `errors`.

    The pixels of a view are one value: the bytes of a uint8 array (samples, size, size, 3).
    """
    pixels = [pa.field(_pixels_name(i), pa.large_binary()) for i in range(views)]
    errors = [pa.field(_errors_name(i), pa.list_(pa.string())) for i in range(views)]
    return pa.schema([*(cast("pa.Field[Any]", CHUNK.field(name)) for name in _KEPT), *pixels, *errors])  # pyright: ignore[reportUnknownMemberType]


def decoded_table(chunk: pa.Table, pixels: Sequence[pa.Buffer], errors: Sequence[Sequence[str | None]]) -> pa.Table:
    """One CHUNK row as a decoded chunk.

    Args:
        chunk: a table of one row.
        pixels: of each view, not copied.
        errors: of each view, by sample.
    """
    columns: dict[str, Any] = {name: chunk[name] for name in _KEPT}
    columns |= {_pixels_name(i): one_value(buffer) for i, buffer in enumerate(pixels)}
    columns |= {_errors_name(i): [list(of_view)] for i, of_view in enumerate(errors)}
    return pa.table(columns, schema=decoded_schema(len(pixels)))


def decoded_chunks(table: pa.Table, views: Sequence[View]) -> "Iterator[DecodedChunk]":
    """The chunks in a table of decoded chunks, whose views are `views` in this order."""
    rows = table.drop_columns([_pixels_name(i) for i in range(len(views))]).to_pylist()
    for i, row in enumerate(rows):
        yield DecodedChunk(
            shard=row["shard"],
            start=row["start"],
            last=row["last"],
            failure=row["failure"],
            transient=bool(row["transient"]),
            passed=row["passed"],
            keys=row["keys"],
            labels=row["labels"],
            offsets=row["offsets"],
            digests=row["digests"],
            _errors={view: row[_errors_name(place)] for place, view in enumerate(views)},
            _pixels={view: table[_pixels_name(place)][i] for place, view in enumerate(views)},
        )


def one_value(content: pa.Buffer) -> pa.LargeBinaryArray:
    """A column of the one value `content`, which is not copied."""
    ends = pa.py_buffer(np.array([0, content.size], np.int64))  # pyright: ignore[reportArgumentType]
    return cast(pa.LargeBinaryArray, pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, content]))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedChunk:
    """Consecutive samples of one shard, decoded for each view; see `records.CHUNK`.

    Attributes:
        shard: position in the dataset.
        start: index in the shard of the first sample.
        last: whether the shard ends with this chunk.
        failure: why the shard cannot be read further; the chunk is then empty.
        transient: whether that may be over by the next attempt.
        passed: in the last chunk, what was passed over, as JSON; None for nothing.
        keys: of the samples, like the following.
        labels: None where there is none.
        offsets: of the images in their tar, in bytes; None in Parquet.
        digests: of the encoded images, see `read.digest_of`; None where there is no image.
    """

    shard: int
    start: int
    last: bool
    failure: str | None
    transient: bool
    passed: str | None
    keys: Sequence[str]
    labels: Sequence[int | None]
    offsets: Sequence[int | None]
    digests: Sequence[int | None]
    _errors: dict[View, list[str | None]]
    _pixels: dict[View, pa.LargeBinaryScalar]

    def pixels(self, view: View) -> np.ndarray:
        """The samples as a uint8 array (samples, size, size, 3), not copied; zeros where there is an error."""
        size = view.geometry.size
        # Arrow's buffers have the buffer protocol, which their stub lacks.
        flat = np.frombuffer(cast(memoryview, self._pixels[view].as_buffer()), np.uint8)
        return flat.reshape(len(self.keys), size, size, 3)

    def errors(self, view: View) -> list[str | None]:
        """By sample, why it has no pixels; None where it has."""
        return self._errors[view]


def _pixels_name(view: int) -> str:
    return f"pixels_{view}"


def _errors_name(view: int) -> str:
    return f"errors_{view}"
