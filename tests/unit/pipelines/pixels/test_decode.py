"""Covers pipelines.pixels.decode and exact_decode: Pillow's pixels by the stated rule, and a row for every sample."""

import io
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.pixels import decode, exact_decode
from pipelines.records import CHUNK
from tests.support.pictures import (
    GOOD,
    GOOD_PIXELS,
    SMALL,
    chunk,
    decoded,
    encoded,
    exact,
    noise,
    pixels,
    png,
    reference,
)
from zoo.preprocessing import Geometry

GEOMETRIES = [SMALL, Geometry(224, 256, "bicubic"), Geometry(48, 48, "bilinear"), Geometry(33, 40, "bilinear")]


SIZES = [(64, 64), (80, 50), (50, 80), (61, 47), (47, 61), (33, 100), (257, 255), (1, 1), (2, 3), (7, 1), (500, 375)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_pixels_are_those_of_plain_pillow(form: str, size: tuple[int, int]) -> None:
    data = encoded(noise(*size), form)
    arrays, errors = decoded([data], GEOMETRIES)
    assert errors == [None]
    for array, geometry in zip(arrays, GEOMETRIES, strict=True):
        expected = reference(Image.open(io.BytesIO(data)).convert("RGB"), geometry)
        assert expected.shape == (geometry.size, geometry.size, 3)
        assert (array[0] == expected).all()


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(1, 40),
    more=st.integers(0, 12),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
def test_any_size_is_resized_and_cropped_as_the_reference_does(width, height, size, more, interpolation) -> None:
    geometry, picture = Geometry(size, size + more, interpolation), noise(width, height)
    result = exact_decode.resize_and_crop(picture, geometry)
    assert result.dtype == np.uint8
    assert (result == reference(picture, geometry)).all()


def test_several_geometries_give_what_each_gives_alone() -> None:
    images = [encoded(noise(60, 45, seed=i), "JPEG") for i in range(3)]
    images.insert(1, b"broken")
    together, errors = decoded(images, GEOMETRIES)
    for array, geometry in zip(together, GEOMETRIES, strict=True):
        (alone,), same_errors = decoded(images, [geometry])
        assert (array == alone).all()
        assert errors == same_errors


def with_transparency(picture: Image.Image) -> bytes:
    return encoded(picture, "PNG", transparency=bytes(range(256)) if picture.mode == "P" else 7)


CONVERTED = {
    "cmyk.jpg": lambda: encoded(noise(40, 50, "CMYK"), "JPEG"),
    "grey.jpg": lambda: encoded(noise(40, 50, "L"), "JPEG"),
    "grey.png": lambda: encoded(noise(40, 50, "L"), "PNG"),
    "grey-transparent.png": lambda: with_transparency(noise(40, 50, "L")),
    "rgb-transparent.png": lambda: encoded(noise(40, 50), "PNG", transparency=(1, 2, 3)),
    "la.png": lambda: encoded(noise(40, 50, "LA"), "PNG"),
    "palette.png": lambda: encoded(noise(40, 50, "P"), "PNG"),
    "palette-transparent.png": lambda: with_transparency(noise(40, 50, "P")),
    "palette-one-transparent.png": lambda: encoded(noise(40, 50, "P"), "PNG", transparency=3),
    "rgba.png": lambda: encoded(noise(40, 50, "RGBA"), "PNG"),
    "rgba.webp": lambda: encoded(noise(40, 50, "RGBA"), "WEBP", lossless=True, exact=True),
    "one-bit.png": lambda: encoded(noise(40, 50, "1"), "PNG"),
    "progressive.jpg": lambda: encoded(noise(40, 50), "JPEG", progressive=True),
    "optimised.png": lambda: encoded(noise(40, 50), "PNG", optimize=True),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_every_mode_is_converted_as_pillow_converts_it(name: str) -> None:
    data = CONVERTED[name]()
    with warnings.catch_warnings(action="ignore"):  # plain Pillow warns of palettes with transparency; we do not
        expected = reference(Image.open(io.BytesIO(data)).convert("RGB"), SMALL)
    assert (pixels(data) == expected).all()


def test_alpha_is_dropped_and_the_colour_below_it_stays() -> None:
    clear = noise(40, 50).copy()
    clear.putalpha(0)
    assert (pixels(encoded(clear, "PNG")) == reference(noise(40, 50), SMALL)).all()


@pytest.mark.parametrize("form", ["WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_counts(form: str) -> None:
    first, second = noise(40, 50), noise(40, 50, seed=1).rotate(90)
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(first, form, save_all=True, append_images=[second], duration=100, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert (pixels(data) == reference(first, SMALL)).all()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_is_not_turned_as_its_exif_says(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned, plain = encoded(noise(60, 40), "JPEG", exif=exif), encoded(noise(60, 40), "JPEG")
    assert turned != plain
    assert (pixels(turned) == pixels(plain)).all()


def test_content_decides_and_no_name_is_asked() -> None:
    """No name reaches decode at all: a PNG named .jpg is a PNG."""
    assert (pixels(encoded(noise(40, 50), "PNG")) == reference(noise(40, 50), SMALL)).all()


def test_sixteen_bit_grey_is_scaled_linearly() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    picture = exact_decode.open_rgb(encoded(Image.fromarray(values), "PNG"))
    assert picture.mode == "RGB"
    expected = np.rint(values.astype(np.float64) / 257).astype(np.uint8)
    assert (np.asarray(picture) == expected[..., None]).all()


def test_eight_bits_written_as_sixteen_give_the_same_picture() -> None:
    grey = noise(64, 48, "L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert (pixels(encoded(deep, "PNG")) == pixels(encoded(grey, "PNG"))).all()


def test_sixteen_bit_colour_is_read_by_its_high_bytes_as_pillow_reads_it() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(">u2")
    data = png(30, 20, depth=16, data=b"".join(b"\0" + row.tobytes() for row in values))
    assert (np.asarray(exact_decode.open_rgb(data)) == (values >> 8).astype(np.uint8)).all()


def test_a_single_pixel_fills_the_square() -> None:
    assert (pixels(encoded(Image.new("RGB", (1, 1), (9, 99, 199)), "PNG")) == (9, 99, 199)).all()


def test_a_row_that_came_with_an_error_keeps_it_and_its_place() -> None:
    table = decode.decode_chunks(chunk([GOOD, None, GOOD], [None, "no image: x", None]), exact(SMALL, GEOMETRIES[2]))
    row = table.to_pylist()[0]
    assert row["errors_0"] == row["errors_1"] == [None, "no image: x", None]
    assert (row["keys"], row["labels"], row["offsets"]) == (["0", "1", "2"], [0, 1, 2], [0, 512, 1024])
    assert (row["start"], row["last"]) == (64, True)
    array = np.frombuffer(row["pixels_0"], np.uint8).reshape(3, 32, 32, 3)
    assert not array[1].any()
    assert (array[[0, 2]] == GOOD_PIXELS).all()
    assert "images" not in row


@pytest.mark.parametrize("transient", [False, True])
def test_a_failed_shards_chunk_passes_through(transient: bool) -> None:
    row = {"shard": 1, "start": 0, "last": False, "failure": "cut", "transient": transient, "passed": None}
    row |= {name: [] for name in ("keys", "labels", "offsets", "digests", "errors", "images")}
    table = decode.decode_chunks(pa.Table.from_pylist([row], schema=CHUNK), exact(SMALL))
    kept = {name: value for name, value in row.items() if name not in {"images", "errors"}}
    assert table.to_pylist() == [kept | {"pixels_0": b"", "errors_0": []}]


def test_chunks_of_one_table_are_decoded_each_for_itself() -> None:
    tables = [chunk([GOOD, b""]), chunk([encoded(noise(9, 9), "PNG")])]
    together = decode.decode_chunks(pa.concat_tables(tables), exact(SMALL))
    assert together.combine_chunks() == pa.concat_tables(
        [decode.decode_chunks(table, exact(SMALL)) for table in tables]
    ).combine_chunks()  # fmt: skip


@pytest.mark.acceptance
def test_the_real_images_decode_as_plain_pillow_reads_them(sample_images: Path) -> None:
    paths = sorted(path for path in (sample_images / "images").rglob("*") if path.is_file())
    assert len(paths) == 250
    geometry = Geometry(224, 256, "bicubic")
    for start in range(0, 250, 50):
        batch = [path.read_bytes() for path in paths[start : start + 50]]
        (array,), errors = decoded(batch, [geometry])
        assert errors == [None] * 50
        for row in range(0, 50, 10):
            picture = Image.open(io.BytesIO(batch[row])).convert("RGB")
            assert (array[row] == reference(picture, geometry)).all()
