"""Covers pipelines.pixels.random_crop: a function of the seed, within its bounds, and the pixels of its crop."""

import io
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.pixels.random_crop import Augmentation, Chance, decode, drawn

HOW = Augmentation(size=32, interpolation="bilinear", scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), flip=0.5)
SIDES = st.integers(1, 700)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**31))
def test_a_crop_lies_within_the_picture_and_the_same_seed_draws_the_same(width: int, height: int, seed: int):
    chance = Chance(HOW, (seed, 1))
    (left, top, right, bottom), mirrored = drawn(chance, width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert drawn(chance, width, height) == ((left, top, right, bottom), mirrored)


def test_area_and_ratio_keep_within_their_bounds_and_fill_them():
    boxes = [drawn(Chance(HOW, (seed,)), 400, 400)[0] for seed in range(3000)]
    sizes = np.array([(right - left, bottom - top) for left, top, right, bottom in boxes])
    area, ratio = sizes.prod(axis=1) / 160_000, sizes[:, 0] / sizes[:, 1]
    assert 0.078 < area.min() < 0.1
    assert 0.95 < area.max() <= 1
    assert 0.73 < ratio.min() < 0.76
    assert 1.30 < ratio.max() < 1.36
    assert abs(np.log(ratio).mean()) < 0.03


def test_half_of_the_pictures_are_mirrored_or_none():
    flips = [drawn(Chance(HOW, (seed,)), 40, 40)[1] for seed in range(1000)]
    assert 450 < sum(flips) < 550
    assert not any(drawn(Chance(replace(HOW, flip=0.0), (seed,)), 40, 40)[1] for seed in range(100))


def test_the_whole_picture_unmirrored_is_a_plain_resize():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    how = replace(HOW, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    (found,) = decode(png(pixels), [Chance(how, (1,))])
    assert np.array_equal(found, np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)))
    (mirrored,) = decode(png(pixels), [Chance(replace(how, flip=1.0), (1,))])
    assert np.array_equal(mirrored, np.asarray(found)[:, ::-1])


def test_what_is_no_picture_is_a_reason():
    assert (
        decode(b"nonsense", [Chance(HOW, (1,))])
        == "not an image: the bytes are not JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF"
    )
