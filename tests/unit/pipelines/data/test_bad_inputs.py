"""Covers a thousand damaged inputs: images end in pixels or a reason, shards in chunks or a failure.

Nothing escapes, nothing takes seconds, and memory stays within what a good input of that kind may need.
"""

import gzip
import io
import random
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import storage
from pipelines.data import read
from pipelines.pixels import decode
from pipelines.records import CHUNK, Shard, View
from tests.support.pictures import encoded
from tests.support.processes import peak_memory
from zoo.preprocessing import Geometry

PICTURES, TARS, COMPRESSED, PARQUETS = 600, 250, 100, 150
GEOMETRY = Geometry(32, 36, "bicubic")
SECONDS = 5
EXTREMES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
PREFIXES = {"empty file", "not an image", "broken image", "too many pixels", "unusual pixels"}


def pixels(seed: int, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    array = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    picture = Image.fromarray(array).resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return picture.convert(mode)


GOOD = {
    "baseline.jpg": encoded(pixels(0), "JPEG"),
    "progressive.jpg": encoded(pixels(1), "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "cmyk.jpg": encoded(pixels(2, "CMYK"), "JPEG"),
    "rgb.png": encoded(pixels(3), "PNG", dpi=(72, 72)),
    "palette.png": encoded(pixels(4, "P"), "PNG", transparency=bytes(range(256))),
    "deep.png": encoded(pixels(5, "I;16"), "PNG"),
    "moving.png": encoded(pixels(6), "PNG", save_all=True, append_images=[pixels(7)]),
    "lossy.webp": encoded(pixels(8), "WEBP"),
    "lossless.webp": encoded(pixels(9, "RGBA"), "WEBP", lossless=True),
    "moving.webp": encoded(pixels(10), "WEBP", save_all=True, append_images=[pixels(11)]),
    "moving.gif": encoded(pixels(12, "P"), "GIF", save_all=True, append_images=[pixels(13, "P")]),
    "rgb.bmp": encoded(pixels(14), "BMP"),
    "lzw.tif": encoded(pixels(15), "TIFF", compression="tiff_lzw"),
    "deep.tif": encoded(pixels(16, "I;16"), "TIFF"),
    "lossy.avif": encoded(pixels(17), "AVIF"),
}


def flipped(data: bytes, rng: random.Random) -> bytes:
    """A few bits of all."""
    bad = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    return bytes(bad)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def noise(data: bytes, rng: random.Random) -> bytes:
    """Random bytes, alone or from some place on."""
    kept = rng.choice([0, 4, 16, 64, rng.randrange(len(data))])
    return data[:kept] + rng.randbytes(len(data) - kept)


def at_edge(data: bytes, rng: random.Random) -> bytes:
    """Extreme numbers at the beginning or, as Parquet's footer is there, at the end."""
    bad = bytearray(data)
    start = rng.choice([rng.randrange(64), rng.randrange(512), -rng.randrange(1, 512)]) % len(bad)
    length = rng.choice([1, 2, 4])
    bad[start : start + length] = bytes([rng.choice(EXTREMES)] * length)[: len(bad) - start]
    return bytes(bad)


def spliced(data: bytes, rng: random.Random) -> bytes:
    """A part left out, doubled, or in another place."""
    a, b, c = sorted(rng.randrange(len(data)) for _ in range(3))
    return rng.choice([data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:]])


MUTATIONS = [flipped, cut, noise, at_edge, spliced]


def damaged(good: dict[str, bytes], count: int, mend: Callable[[bytes], bytes]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of `count` inputs; every second with its checksums mended, to get behind them."""
    rng = random.Random(count)
    for number in range(count):
        name = list(good)[number % len(good)]
        bad = MUTATIONS[number // len(good) % len(MUTATIONS)](good[name], rng)
        yield name, mend(bad) if number // len(good) % 2 else bad


def mended_png(data: bytes) -> bytes:
    """With the checksum of every part that still has its place."""
    if not data.startswith(b"\x89PNG"):
        return data
    bad, start = bytearray(data), 8
    while start + 12 <= len(bad):
        (length,) = struct.unpack_from(">I", bad, start)
        end = start + 8 + length
        if end + 4 > len(bad):
            break
        struct.pack_into(">I", bad, end, zlib.crc32(bad[start + 4 : end]))
        start = end + 4
    return bytes(bad)


def mended_tar(data: bytes) -> bytes:
    """With the checksum of every block that looks like a header."""
    bad = bytearray(data)
    for start in range(0, len(bad) - 511, 512):
        if bad[start + 257 : start + 262] == b"ustar":
            bad[start + 148 : start + 156] = b" " * 8
            bad[start + 148 : start + 156] = b"%06o\0 " % sum(bad[start : start + 512])
    return bytes(bad)


def test_every_damaged_picture_is_a_row() -> None:
    decode._SANDBOXES["exact"].close()
    bad = list(damaged(GOOD, PICTURES, mended_png))
    reasons = set()
    for start in range(0, len(bad), 10):
        images = [data for _, data in bad[start : start + 10]]
        row = dict.fromkeys(CHUNK.names) | {"shard": 0, "start": 0, "last": True, "images": images}
        row |= {"keys": [""] * 10, "labels": [0] * 10, "errors": [None] * 10}
        begin = time.monotonic()
        (out,) = decode.decode_chunks(pa.Table.from_pylist([row], schema=CHUNK), [View("exact", GEOMETRY)]).to_pylist()
        assert time.monotonic() - begin < SECONDS
        array = np.frombuffer(out["pixels_0"], np.uint8).reshape(10, GEOMETRY.size, GEOMETRY.size, 3)
        for error, square in zip(out["errors_0"], array, strict=True):
            assert error is None or not square.any()
            reasons.add(error and error.partition(":")[0])
    assert None in reasons
    assert reasons - {None} <= PREFIXES
    child = decode._SANDBOXES["exact"]._child
    assert child is not None
    assert peak_memory(child.process.pid) < 1.2e9, "more than the largest picture needs"


def good_tars() -> dict[str, bytes]:
    return {
        f"{name}.tar": tar(form, labels)
        for name, form, labels in [
            ("pax", tarfile.PAX_FORMAT, True),
            ("gnu", tarfile.GNU_FORMAT, True),
            ("ustar", tarfile.USTAR_FORMAT, False),
        ]
    }


def tar(form: int, labels: bool) -> bytes:
    buffer = io.BytesIO()
    folder = "n/" if form == tarfile.USTAR_FORMAT else "lönger " * 30 + "/"
    with tarfile.open(fileobj=buffer, mode="w", format=form) as file:
        for number, (name, image) in enumerate(GOOD.items()):
            suffix = name.rpartition(".")[2]
            members = {suffix: image} | ({"cls": b"%d" % number} if labels else {})
            for field, content in members.items():
                info = tarfile.TarInfo(f"{folder}{number:04}.{field}")
                info.size, info.mtime = len(content), 1.5 if form == tarfile.PAX_FORMAT else 1
                file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def compressed_tars() -> dict[str, bytes]:
    packed = {"gz": gzip.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    return {f"{name}.{suffix}": pack(data) for name, data in good_tars().items() for suffix, pack in packed.items()}


def good_parquets() -> dict[str, bytes]:
    images = list(GOOD.values()) * 4
    keys = [f"key{i}" for i in range(len(images))]
    table = pa.table({"key": keys, "image": images, "label": pa.array(range(len(images)), pa.int64())})
    options = [
        {"compression": "none", "use_dictionary": False, "write_page_checksum": True},
        {"compression": "snappy", "row_group_size": 7},
        {"compression": "zstd", "row_group_size": 10, "data_page_version": "2.0"},
        {"compression": "gzip", "use_dictionary": False, "data_page_size": 1000, "version": "1.0"},
        {"compression": "none", "use_dictionary": ["key"], "store_schema": False},
    ]
    structs = pa.array([{"bytes": image, "path": f"{key}.jpg"} for key, image in zip(keys, images, strict=True)])
    tables = [table, table.drop_columns(["key"]).set_column(0, "image", structs)]
    return {
        f"{number}-{kind}.parquet": parquet(one, choice)
        for number, choice in enumerate(options)
        for kind, one in enumerate(tables)
        if not (kind and "use_dictionary" in choice)
    }


def parquet(table: pa.Table, options: dict) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["tar", "compressed", "parquet"])
def test_every_damaged_shard_ends_in_chunks_or_a_failure(form: str, tmp_path: Path) -> None:
    if form == "tar":
        bad = damaged(good_tars(), TARS, mended_tar)
    elif form == "compressed":
        bad = damaged(compressed_tars(), COMPRESSED, lambda data: data)
    else:
        bad = damaged(good_parquets(), PARQUETS, lambda data: data)
    failures = 0
    forget_peak()
    before = peak_memory("self")
    for number, (name, data) in enumerate(bad):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(data)
        begin = time.monotonic()
        failures += failed(str(path))
        assert time.monotonic() - begin < SECONDS, path.name
        path.unlink()
    assert peak_memory("self") - before < 600e6, "more than twice the largest member of a tar"
    assert failures > number / 3


def failed(uri: str) -> bool:
    """Whether the shard at `uri` is a failure; what comes before it is a shard's beginning without gap."""
    stored = storage.stat(uri)
    shard = Shard(name="bad", uri=uri, size=stored.size, etag=stored.etag)
    following, last = 0, False
    for chunk in read.chunks(0, shard, 4):
        assert chunk.schema == CHUNK
        assert not last
        (row,) = chunk.to_pylist()
        rows = len(row["keys"])
        if not rows:
            return row["failure"] is not None
        assert (row["start"], len(row["errors"]), len(row["images"])) == (following, rows, rows)
        assert [error is None for error in row["errors"]] == [image is not None for image in row["images"]]
        following, last = following + rows, row["last"]
    assert last
    return False


def forget_peak() -> None:
    with suppress(OSError):  # where that is forbidden, an earlier peak only hides a lower one
        Path("/proc/self/clear_refs").write_text("5")
