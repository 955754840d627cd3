"""Decoding: the pixels that Pillow gives by the stated rule, and a reason, always the same, where there are none."""

import io
import struct
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines import decode
from pipelines.records import CHUNK
from zoo.preprocessing import Geometry

SMALL = Geometry(32, 36, "bicubic")
GEOMETRIES = [SMALL, Geometry(224, 256, "bicubic"), Geometry(48, 48, "bilinear"), Geometry(33, 40, "bilinear")]


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


def chunk(images: list[bytes | None], errors: list[str | None] | None = None) -> pa.Table:
    row = {"shard": 3, "start": 64, "last": True, "failure": None, "images": images}
    row |= {"keys": [str(i) for i in range(len(images))], "labels": list(range(len(images)))}
    return pa.Table.from_pylist([row | {"errors": errors or [None] * len(images)}], schema=CHUNK)


def decoded(images: list[bytes | None], geometries: list[Geometry]) -> tuple[list[np.ndarray], list[str | None]]:
    table = decode.decode_chunks(chunk(images), geometries)
    assert table.schema == decode.decoded_schema(len(geometries))
    row = table.to_pylist()[0]
    arrays = [
        np.frombuffer(row[f"pixels_{i}"], np.uint8).reshape(len(images), geometry.size, geometry.size, 3)
        for i, geometry in enumerate(geometries)
    ]
    return arrays, row["errors"]


def pixels(image: bytes, geometry: Geometry = SMALL) -> np.ndarray:
    (array,), (error,) = decoded([image], [geometry])
    assert error is None
    return array[0]


def reason(image: bytes) -> str:
    """Why it cannot be decoded: the same twice, its pixels zeros and its neighbours' untouched."""
    (array,), errors = decoded([GOOD, image, GOOD], [SMALL])
    assert errors[0] is errors[2] is None
    assert not array[1].any()
    assert (array[0] == GOOD_PIXELS).all()
    assert (array[2] == GOOD_PIXELS).all()
    assert errors[1] == decoded([image], [SMALL])[1][0]
    assert " at 0x" not in errors[1]
    return errors[1]


GOOD = encoded(noise(50, 40), "JPEG")
GOOD_PIXELS = reference(Image.open(io.BytesIO(GOOD)), SMALL)
SIZES = [(64, 64), (80, 50), (50, 80), (61, 47), (47, 61), (33, 100), (257, 255), (1, 1), (2, 3), (7, 1), (500, 375)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
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
    result = decode.resize_and_crop(picture, geometry)
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


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
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
    picture = decode.open_rgb(encoded(Image.fromarray(values), "PNG"))
    assert picture.mode == "RGB"
    expected = np.rint(values.astype(np.float64) / 257).astype(np.uint8)
    assert (np.asarray(picture) == expected[..., None]).all()


def test_eight_bits_written_as_sixteen_give_the_same_picture() -> None:
    grey = noise(64, 48, "L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert (pixels(encoded(deep, "PNG")) == pixels(encoded(grey, "PNG"))).all()


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG written by hand: its header may promise what its data does not hold."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(data)) + part(b"IEND", b"")


def test_sixteen_bit_colour_is_read_by_its_high_bytes_as_pillow_reads_it() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(">u2")
    data = png(30, 20, depth=16, data=b"".join(b"\0" + row.tobytes() for row in values))
    assert (np.asarray(decode.open_rgb(data)) == (values >> 8).astype(np.uint8)).all()


def test_a_single_pixel_fills_the_square() -> None:
    assert (pixels(encoded(Image.new("RGB", (1, 1), (9, 99, 199)), "PNG")) == (9, 99, 199)).all()


def bomb_webp(width: int, height: int) -> bytes:
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    still = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + still
    return b"RIFF" + struct.pack("<I", len(body)) + body


HUGE = {
    "30000x30000": lambda: png(30000, 30000, data=bytes(1000)),
    "30000x30000 grey16": lambda: png(30000, 30000, depth=16, colour=0),
    "2000000000x2000000000": lambda: png(2_000_000_000, 2_000_000_000),
    "7072x7072": lambda: png(7072, 7072),
    "65500x65500": lambda: (
        GOOD[: GOOD.index(b"\xff\xc0") + 5] + b"\xff\xdc\xff\xdc" + GOOD[GOOD.index(b"\xff\xc0") + 9 :]
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_picture_over_the_limit_is_refused_by_its_header(name: str) -> None:
    data = HUGE[name]()
    assert len(data) < 20_000
    reason(data)  # once, so that the codecs are loaded
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(decode.DecodeError, match=f"^too many pixels: {name.split()[0]} is over 50000000$"):
        decode.open_rgb(data)
    assert time.perf_counter() - begin < 0.1
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts resident pages by /proc")
def test_refusing_huge_pictures_takes_no_memory_outside_python_either() -> None:
    for data in (HUGE["30000x30000"](), bomb_webp(16383, 16383)):
        reason(data)
        before = resident()
        for _ in range(3):
            reason(data)
        assert resident() - before < 30e6


def test_a_picture_just_within_the_limit_is_decoded() -> None:
    data = encoded(Image.new("1", (10_000, 5_000), 1), "PNG")
    assert (pixels(data) == 255).all()


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)], ids=["tall", "wide"])
def test_an_elongated_picture_whose_resized_form_is_too_large_is_refused(size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size), "PNG")
    (array,), errors = decoded([GOOD, data], [Geometry(224, 256, "bicubic")])
    resized = "256x5120000"
    assert errors == [None, f"too many pixels: {resized} after resizing is over 50000000"]
    assert not array[1].any()
    assert array[0].any()


def test_a_picture_too_long_for_one_geometry_has_no_pixels_in_any() -> None:
    data = encoded(Image.new("RGB", (1, 2000), (255, 255, 255)), "PNG")
    (small, large), errors = decoded([data], [Geometry(8, 8, "bicubic"), Geometry(224, 256, "bicubic")])
    assert errors == ["too many pixels: 256x512000 after resizing is over 50000000"]
    assert not small.any()
    assert not large.any()


NO_IMAGE = {
    "text": b"this is text\n" * 30,
    "one-byte": b"\xff",
    "json": b"{}",
    "zeros": bytes(1000),
    "gif": encoded(noise(40, 40), "GIF"),
    "tiff": encoded(noise(40, 40), "TIFF"),
    "bmp": encoded(noise(40, 40), "BMP"),
    "ppm": encoded(noise(40, 40), "PPM"),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "png-signature": b"\x89PNG\r\n\x1a\n",
    "riff": b"RIFF\x10\0\0\0WAVEfmt ",
}


@pytest.mark.parametrize("name", NO_IMAGE)
def test_what_is_no_jpeg_png_or_webp_is_not_an_image(name: str) -> None:
    assert reason(NO_IMAGE[name]) == "not an image: the bytes are not JPEG, PNG, WEBP"


def test_an_empty_file_is_called_empty() -> None:
    assert reason(b"") == "empty file"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_cut_anywhere_is_an_error_row(form: str) -> None:
    whole = encoded(noise(120, 90), form)
    cuts = [len(whole) * part // 16 for part in range(1, 16)]
    reasons = [reason(whole[:cut]) for cut in [3, 20, *cuts]]
    assert all(text.startswith(("not an image: ", "broken image: ")) for text in reasons)
    assert reasons[-1].startswith("broken image: ")


@pytest.mark.parametrize("tail", [1, 2, 10, 100])
def test_a_jpeg_that_lacks_its_tail_is_never_filled_up_with_grey(tail: int) -> None:
    assert reason(encoded(noise(120, 90), "JPEG")[:-tail]).startswith("broken image: OSError: image file is truncated")


@settings(deadline=None, max_examples=200)
@given(
    form=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
def test_any_damage_ends_in_pixels_or_in_a_reason_and_the_same_every_time(form: str, changes: list) -> None:
    data = bytearray(DAMAGED[form])
    for place, value in changes:
        data[int(place * len(data))] = value
    first, second = (decode.decode_chunks(chunk([bytes(data), GOOD]), [SMALL]) for _ in range(2))
    assert first == second
    error, none = first["errors"][0].as_py()
    assert none is None
    assert error is None or error.partition(":")[0] in {"not an image", "broken image", "too many pixels"}


DAMAGED = {form: encoded(noise(30, 24), form) for form in ("JPEG", "PNG", "WEBP")}


def test_a_row_that_came_with_an_error_keeps_it_and_its_place() -> None:
    table = decode.decode_chunks(chunk([GOOD, None, GOOD], [None, "no image: x", None]), [SMALL, GEOMETRIES[2]])
    row = table.to_pylist()[0]
    assert row["errors"] == [None, "no image: x", None]
    assert (row["keys"], row["labels"], row["start"], row["last"]) == (["0", "1", "2"], [0, 1, 2], 64, True)
    array = np.frombuffer(row["pixels_0"], np.uint8).reshape(3, 32, 32, 3)
    assert not array[1].any()
    assert (array[[0, 2]] == GOOD_PIXELS).all()
    assert "images" not in row


def test_a_failed_shards_chunk_passes_through() -> None:
    row = {
        "shard": 1,
        "start": 0,
        "last": False,
        "failure": "cut",
        "keys": [],
        "labels": [],
        "errors": [],
        "images": [],
    }
    table = decode.decode_chunks(pa.Table.from_pylist([row], schema=CHUNK), [SMALL])
    assert table.to_pylist() == [{k: v for k, v in row.items() if k != "images"} | {"pixels_0": b""}]


def test_chunks_of_one_table_are_decoded_each_for_itself() -> None:
    tables = [chunk([GOOD, b""]), chunk([encoded(noise(9, 9), "PNG")])]
    together = decode.decode_chunks(pa.concat_tables(tables), [SMALL])
    assert together.combine_chunks() == pa.concat_tables(
        [decode.decode_chunks(table, [SMALL]) for table in tables]
    ).combine_chunks()  # fmt: skip


def test_damage_that_names_an_address_is_said_without_it(monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("cannot read <_io.BytesIO object at 0x7f00deadbeef> at all")

    monkeypatch.setattr(decode, "_to_rgb", fail)
    with pytest.raises(decode.DecodeError, match=r"^broken image: OSError: cannot read <_io.BytesIO object> at all$"):
        decode.open_rgb(GOOD)


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
