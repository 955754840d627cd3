"""Covers images that cannot be decoded: always the same reason, no pixels, no memory, no effect on neighbours."""

import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.pixels import decode, exact_decode
from tests.support.pictures import GOOD, GOOD_PIXELS, SMALL, chunk, decoded, encoded, exact, noise, pixels, png
from zoo.preprocessing import Geometry


def reason(image: bytes) -> str:
    """Why it cannot be decoded: the same twice and by both decoders, its pixels zeros and its neighbours' untouched."""
    (array,), errors = decoded([GOOD, image, GOOD], [SMALL])
    assert errors[0] is errors[2] is None
    assert not array[1].any()
    assert (array[0] == GOOD_PIXELS).all()
    assert (array[2] == GOOD_PIXELS).all()
    assert errors[1] == decoded([image], [SMALL])[1][0] == decoded([image], [SMALL], "fast")[1][0]
    assert errors[1] is not None
    assert " at 0x" not in errors[1]
    return errors[1]


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
    with pytest.raises(exact_decode.DecodeError, match=f"^too many pixels: {name.split()[0]} is over 50000000$"):
        exact_decode.open_rgb(data)
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


def test_a_picture_too_long_for_one_geometry_is_an_error_in_that_alone() -> None:
    data = encoded(Image.new("RGB", (1, 2000), (255, 255, 255)), "PNG")
    views = exact(Geometry(8, 8, "bicubic"), Geometry(224, 256, "bicubic"))
    (row,) = decode.decode_chunks(chunk([data]), views).to_pylist()
    assert row["errors_0"] == [None]
    assert row["errors_1"] == ["too many pixels: 256x512000 after resizing is over 50000000"]
    assert any(row["pixels_0"])
    assert not any(row["pixels_1"])


NO_IMAGE = {
    "text": b"this is text\n" * 30,
    "one-byte": b"\xff",
    "json": b"{}",
    "zeros": bytes(1000),
    "ppm": encoded(noise(40, 40), "PPM"),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "png-signature": b"\x89PNG\r\n\x1a\n",
    "riff": b"RIFF\x10\0\0\0WAVEfmt ",
}


@pytest.mark.parametrize("name", NO_IMAGE)
def test_what_is_of_no_known_format_is_not_an_image(name: str) -> None:
    assert reason(NO_IMAGE[name]) == "not an image: the bytes are not JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF"


def test_an_empty_file_is_called_empty() -> None:
    assert reason(b"") == "empty file"


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_a_tiff_whose_numbers_would_be_clipped_is_an_error_row(mode: str) -> None:
    grey = np.arange(1600, dtype=np.int32).reshape(40, 40) * 100_000
    image = {
        "F": Image.fromarray(grey.astype(np.float32)),
        "I": Image.fromarray(grey),
        "LAB": noise(40, 40).convert("LAB"),
    }
    assert reason(encoded(image[mode], "TIFF")) == (
        f"unusual pixels: a TIFF of mode {mode}; save it with 8 bits a channel"
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_picture_cut_anywhere_is_an_error_row(form: str) -> None:
    whole = encoded(noise(120, 90), form)
    cuts = [len(whole) * part // 16 for part in range(1, 16)]
    reasons = [reason(whole[:cut]) for cut in [3, 20, *cuts]]
    assert all(text.startswith(("not an image: ", "broken image: ")) for text in reasons)
    assert reasons[-1].startswith("broken image: ")


@pytest.mark.parametrize("tail", [1, 2, 10, 100])
def test_a_jpeg_that_lacks_its_tail_is_never_filled_up_with_grey(tail: int) -> None:
    assert reason(encoded(noise(120, 90), "JPEG")[:-tail]).startswith("broken image: OSError: image file is truncated")


DAMAGED = {form: encoded(noise(30, 24), form) for form in ("JPEG", "PNG", "WEBP")}


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
    first, second = (decode.decode_chunks(chunk([bytes(data), GOOD]), exact(SMALL)) for _ in range(2))
    assert first == second
    error, none = first["errors_0"][0].as_py()
    assert none is None
    assert error is None or error.partition(":")[0] in {"not an image", "broken image", "too many pixels"}


def test_damage_that_names_an_address_is_said_without_it(monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("cannot read <_io.BytesIO object at 0x7f00deadbeef> at all")

    monkeypatch.setattr(exact_decode, "to_rgb", fail)
    with pytest.raises(
        exact_decode.DecodeError, match=r"^broken image: OSError: cannot read <_io.BytesIO object> at all$"
    ):
        exact_decode.open_rgb(GOOD)
