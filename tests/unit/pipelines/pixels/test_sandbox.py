"""Covers pipelines.pixels.sandbox: an image that breaks its decoder is one row with a reason and costs no other.

The children really die. Bytes after the end of an image tell them how, see `tests.support.poison`.
"""

from pathlib import Path

import pytest

from pipelines.pixels.sandbox import QUARANTINED
from tests.support import sandboxes
from tests.support.sandboxes import GEOMETRIES, REASONS, assert_rows, picture, poison, rows
from zoo.preprocessing import Geometry

pytestmark = pytest.mark.usefixtures("fresh_child")


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("name", REASONS)
def test_a_picture_that_kills_or_hangs_its_decoder_is_one_row_with_a_reason(name: str) -> None:
    assert_rows([picture(0), picture(1), poison(name), picture(2), picture(3)], {2: QUARANTINED + REASONS[name]})


@pytest.mark.usefixtures("faults")
def test_poison_in_first_and_last_place_and_side_by_side() -> None:
    dead, late = QUARANTINED + REASONS["segfault"], QUARANTINED + REASONS["sleeps"]
    images = [poison("segfault"), picture(0), poison("sleeps"), poison("segfault"), picture(1), poison("sleeps")]
    assert_rows(images, {0: dead, 2: late, 3: dead, 5: late})
    assert_rows([poison("segfault")], {0: dead})
    assert_rows([picture(5)], {})


@pytest.mark.slow
@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough) for name in ("segfault", "flood")] + ["sleeps"]
)
def test_the_fast_decoder_loses_no_other_row_either(name: str) -> None:
    arrays, errors = rows([picture(0), poison(name), picture(1)], "fast")
    assert errors == [None, QUARANTINED + REASONS[name], None]
    expected, _ = rows([picture(0), picture(1)], "fast")
    for array, alone in zip(arrays, expected, strict=True):
        assert (array[[0, 2]] == alone).all()
        assert not array[1].any()


@pytest.mark.usefixtures("faults")
def test_a_picture_is_tried_once_more_before_it_is_blamed() -> None:
    assert_rows([picture(0), poison("once"), picture(1)], {})


@pytest.mark.usefixtures("faults")
def test_what_a_codec_prints_is_not_taken_for_an_answer() -> None:
    assert_rows([poison("babbles"), picture(0), poison("babbles")], {})


def test_what_python_prints_when_it_starts_is_not_taken_for_an_answer(site: Path) -> None:
    site.write_text("print('x' * 100_000)")
    assert_rows([picture(0)], {})


def test_pictures_and_pixels_of_any_size_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    large = [Geometry(1500, 1500, "bilinear"), GEOMETRIES[0]]
    monkeypatch.setattr(sandboxes, "GEOMETRIES", large)
    padded = picture(1) + bytes(30 << 20)
    refused = {2: "empty file", 4: "not an image: the bytes are not JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF"}
    assert_rows([picture(0), padded, b"", picture(2), b"no image" * 5_000_000], refused)
