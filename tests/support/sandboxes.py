"""Images that break their decoder, the rows that come of them, and the children of the sandboxes."""

import io
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.pixels import decode, exact_decode
from pipelines.pixels.sandbox import Limits, Sandbox
from pipelines.records import CHUNK, Decoder, View
from zoo.preprocessing import Geometry

GEOMETRIES = [Geometry(32, 36, "bicubic"), Geometry(48, 48, "bilinear")]
REASONS = {
    "segfault": "crashed the decoder (SIGSEGV)",
    "realtime": "crashed the decoder (signal 40)",
    "exits": "crashed the decoder (exit status 139)",
    "killed": "crashed the decoder (SIGKILL)",
    "flood": "out of memory (needs more than 0.25 GiB)",
    "nomemory": "out of memory (needs more than 0.25 GiB)",
    "sleeps": "timed out (no result in 1 s)",
    "stops": "timed out (no result in 1 s)",
    "nonsense": "crashed the decoder (its answer is nonsense)",
    "deaf": "crashed the decoder (it closed its socket)",
    "raises": "crashed the decoder (exit status 1)",
}


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def poison(name: str) -> bytes:
    return picture(99) + b"POISON:" + name.encode()


def rows(images: list[bytes], decoder: Decoder = "exact") -> tuple[list[np.ndarray], list[str | None]]:
    row = dict.fromkeys(CHUNK.names) | {"shard": 0, "start": 0, "last": True, "images": images}
    row |= {"keys": [str(i) for i in range(len(images))], "labels": [0] * len(images), "errors": [None] * len(images)}
    table = decode.decode_chunks(
        pa.Table.from_pylist([row], schema=CHUNK), [View(decoder, geometry) for geometry in GEOMETRIES]
    )
    (out,) = table.to_pylist()
    shapes = [(len(images), geometry.size, geometry.size, 3) for geometry in GEOMETRIES]
    arrays = [np.frombuffer(out[f"pixels_{i}"], np.uint8).reshape(shape) for i, shape in enumerate(shapes)]
    return arrays, out["errors_0"]


def assert_rows(images: list[bytes], reasons: dict[int, str]) -> None:
    """Rows of `reasons` have those and no pixels; all others are what Pillow gives here, in this process."""
    arrays, errors = rows(images)
    assert {row: error for row, error in enumerate(errors) if error is not None} == reasons
    for array, geometry in zip(arrays, GEOMETRIES, strict=True):
        for row, encoded in enumerate(images):
            if row in reasons:
                assert not array[row].any()
            else:
                assert (array[row] == exact_decode.resize_and_crop(exact_decode.open_rgb(encoded), geometry)).all()


def gone(pid: int) -> bool:
    """Whether it ended: nothing but a zombie, if its new parent has not asked for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children() -> set[int]:
    """Those of this process that live."""
    pids = {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}
    return {pid for pid in pids if not gone(pid)}


def close() -> None:
    for box in decode._SANDBOXES.values():
        box.close()


def limit(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    """Decode in children with other limits."""
    for decoder in get_args(Decoder):
        monkeypatch.setitem(decode._SANDBOXES, decoder, Sandbox(f"pipelines.pixels.{decoder}_decode", limits))
