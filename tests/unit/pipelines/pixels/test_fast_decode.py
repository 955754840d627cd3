"""Covers pipelines.pixels.fast_decode: the reasons and places of `exact`, and pixels that hardly differ."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import zoo
from pipelines.pixels import decode, exact_decode, fast_decode
from pipelines.records import View
from tests.support.pictures import GOOD, GOOD_PIXELS, SMALL, chunk, decoded, encoded, noise
from zoo.preprocessing import Geometry

GEOMETRIES = [Geometry(224, 256, "bicubic"), Geometry(256, 292, "bilinear"), SMALL, Geometry(48, 48, "bilinear")]
TOLERANCE = 2
"""Of 255, in any pixel."""


def same_picture(data: bytes) -> bool:
    return np.array_equal(fast_decode.open_rgb(data), np.asarray(exact_decode.open_rgb(data)))


def deviation(data: bytes, geometry: Geometry) -> np.ndarray:
    fast = fast_decode.resize_and_crop(fast_decode.open_rgb(data), geometry)
    exact = exact_decode.resize_and_crop(exact_decode.open_rgb(data), geometry)
    assert fast.dtype == np.uint8
    assert fast.shape == exact.shape
    return np.abs(fast.astype(int) - exact)


KINDS = {
    "grey.jpg": lambda: encoded(noise(40, 50, "L"), "JPEG"),
    "cmyk.jpg": lambda: encoded(noise(40, 50, "CMYK"), "JPEG"),
    "rgb.jpg": lambda: encoded(noise(40, 50), "JPEG", keep_rgb=True),
    "progressive.jpg": lambda: encoded(noise(40, 50), "JPEG", progressive=True),
    "restarts.jpg": lambda: encoded(noise(40, 50), "JPEG", restart_marker_blocks=1),
    "two.mpo": lambda: encoded(noise(40, 50), "MPO", save_all=True, append_images=[noise(40, 50, seed=1)]),
    "trailing.jpg": lambda: encoded(noise(40, 50), "JPEG") + b"more",
    "rgb.png": lambda: encoded(noise(40, 50), "PNG"),
    "deep.png": lambda: encoded(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40), "PNG"),
    "palette.png": lambda: encoded(noise(40, 50, "P"), "PNG", transparency=3),
    "rgba.webp": lambda: encoded(noise(40, 50, "RGBA"), "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_is_read_to_the_pixels_of_exact(name: str) -> None:
    assert same_picture(KINDS[name]())


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    progressive=st.booleans(),
)
def test_any_jpeg_is_decoded_to_the_pixels_of_exact(width, height, quality, subsampling, progressive) -> None:
    picture = noise(width, height)
    assert same_picture(encoded(picture, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive))


DAMAGED = encoded(noise(30, 24), "JPEG")


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(DAMAGED) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
def test_damage_ends_in_the_pixels_or_the_reason_of_exact(changes: list) -> None:
    data = bytearray(DAMAGED)
    for place, value in changes:
        data[place] = value
    both = []
    for opened in (exact_decode.open_rgb, fast_decode.open_rgb):
        try:
            both.append(np.asarray(opened(bytes(data))).tolist())
        except exact_decode.DecodeError as error:
            both.append(str(error))
    assert both[0] == both[1]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(
    "size", [(64, 64), (61, 47), (33, 100), (1, 1), (2, 3), (7, 1), (500, 375), (1000, 700)], ids=str
)
def test_any_size_is_resized_and_cropped_as_exact_does(size: tuple[int, int], geometry: Geometry) -> None:
    assert deviation(encoded(noise(*size), "JPEG"), geometry).max() <= TOLERANCE


def test_both_decoders_of_one_pass_give_what_each_gives_alone() -> None:
    images = [GOOD, b"broken", None, encoded(noise(300, 200), "PNG")]
    errors = [None, None, "no image: x", None]
    views = [View("fast", GEOMETRIES[0]), View("exact", SMALL), View("fast", SMALL), View("exact", GEOMETRIES[0])]
    (row,) = decode.decode_chunks(chunk(images, errors), views).to_pylist()
    assert row["errors_0"] == [
        None,
        "not an image: the bytes are not JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF",
        "no image: x",
        None,
    ]
    for place, view in enumerate(views):
        (alone,) = decode.decode_chunks(chunk(images, errors), [view]).to_pylist()
        assert row[f"pixels_{place}"] == alone["pixels_0"]
        assert row[f"errors_{place}"] == alone["errors_0"]
    exact = np.frombuffer(row["pixels_1"], np.uint8).reshape(4, 32, 32, 3)
    fast = np.frombuffer(row["pixels_2"], np.uint8).reshape(4, 32, 32, 3)
    assert (exact[0] == GOOD_PIXELS).all()
    assert np.abs(fast.astype(int) - exact).max() <= TOLERANCE


def test_the_same_pixels_every_time() -> None:
    first, second = (decoded([GOOD] * 3, GEOMETRIES, "fast")[0] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_where_it_is_not_asked_for_torch_is_not_loaded() -> None:
    decode._SANDBOXES["fast"].close()
    decoded([GOOD], [SMALL])
    assert decode._SANDBOXES["fast"]._child is None


@pytest.mark.acceptance
@pytest.mark.parametrize("geometry", GEOMETRIES[:2], ids=str)
def test_real_images_deviate_by_next_to_nothing(sample_images: Path, geometry: Geometry, capsys) -> None:
    images = [path.read_bytes() for path in sorted((sample_images / "images").iterdir())]
    every = np.stack([deviation(data, geometry) for data in images])
    with capsys.disabled():
        print(f"\n{geometry}: mean {every.mean():.4f}, largest {every.max()}, {(every > 0).mean():.2%} of pixels")  # noqa: T201
    assert every.max() <= TOLERANCE
    assert every.mean() < 0.02


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_real_model_says_the_same_of_real_images(sample_images: Path, capsys) -> None:
    import torch

    lines = (sample_images / "labels.csv").read_text().split()[1:]
    labels = torch.tensor([int(line.partition(",")[2]) for line in lines])
    images = [(sample_images / "images" / f"{line.partition(',')[0]}.JPEG").read_bytes() for line in lines]
    asked, model = zoo.card("efficientnet_lite0").preprocessing, zoo.create("efficientnet_lite0", weights="card")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (asked.mean, asked.std))
    top = {}
    for decoder in (exact_decode, fast_decode):
        pixels = np.stack([decoder.decode(data, [asked.geometry])[0] for data in images])
        x_BCHW = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        with torch.inference_mode():
            top[decoder] = torch.cat([model((part / 255 - mean) / std).argmax(1) for part in x_BCHW.split(50)])
    agree = int((top[exact_decode] == top[fast_decode]).sum())
    exact, fast = (int((found == labels).sum()) for found in top.values())
    with capsys.disabled():
        print(f"\ntop-1 agreement {agree} of {len(labels)}; right: exact {exact}, fast {fast}")  # noqa: T201
    assert agree >= len(labels) - 2
    assert abs(exact - fast) <= 2
    assert exact == 224
