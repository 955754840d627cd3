"""packing.folders, packing.images: which files are images, their keys and order, and links."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.packing import folders, labelling
from pipelines.packing.images import Image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(f"bytes of {name}".encode())


def images_of(root: Path, labels: str | None = None, classes: str | None = None) -> Sequence[Image]:
    return folders.list_images(root, labelling.given(labels, classes))[0]


def csv_file(root: Path, text: str) -> str:
    path = root.parent / "labels.csv"
    path.write_bytes(text.encode())
    return str(path)


def test_images_come_by_key_with_their_own_bytes(root: Path) -> None:
    fill(root, "b/2.JPG", "b/1.jpeg", "a.b/c d.Png", "é.webp")
    images = images_of(root, csv_file(root, "key,label\nb/1,7\n"))
    assert [(image.key, image.suffix, image.label) for image in images] == [
        ("a.b/c d", "png", None),
        ("b/1", "jpeg", 7),
        ("b/2", "jpg", None),
        ("é", "webp", None),
    ]
    assert [image.read().decode() for image in images] == [f"bytes of {image.name}" for image in images]


def test_other_files_are_counted_and_hidden_ones_passed_over(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(root, "1/1.jpg", "1/notes.txt", "1/README", "1/.hidden.jpg", ".cache/2.jpg", "2/2.jpg")
    assert [image.key for image in images_of(root)] == ["1/1", "2/2"]
    assert "2 files that are not images are left out (1/README, 1/notes.txt)" in caplog.text


def test_pictures_that_are_not_packed_are_counted_by_kind(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(root, "1.jpg", "2.gif", "3.GIF", "4.tiff", "5.avif", "6.heic", "7.HEIC", "8.jxl", "9.svg")
    assert [image.key for image in images_of(root)] == ["1", "2", "3", "4", "5"]
    said = "4 pictures of kinds that are not packed (2 heic, 1 jxl, 1 svg) are left out (6.heic, 7.HEIC, 8.jxl, …)"
    assert said in caplog.text


def test_links_are_followed_to_files_and_to_folders(root: Path) -> None:
    fill(root.parent / "elsewhere", "1.jpg", "2.jpg")
    fill(root, "7/own.jpg")
    (root / "7" / "linked.jpg").symlink_to(root.parent / "elsewhere" / "1.jpg")
    (root / "8").symlink_to(root.parent / "elsewhere")
    images = images_of(root)
    assert [(image.key, image.label, image.read()) for image in images] == [
        ("7/linked", 7, b"bytes of 1.jpg"),
        ("7/own", 7, b"bytes of 7/own.jpg"),
        ("8/1", 8, b"bytes of 1.jpg"),
        ("8/2", 8, b"bytes of 2.jpg"),
    ]


@pytest.mark.parametrize("name", ["gone.jpg", "gone"])
def test_a_link_to_nothing_is_refused(root: Path, name: str) -> None:
    fill(root, "1/1.jpg", "2/2.jpg")
    (root / name).symlink_to(root / "nowhere")
    with pytest.raises(ValueError, match=rf"{name} is a link to .*nowhere, where nothing is"):
        images_of(root)


def test_a_link_that_leads_around_is_refused(root: Path) -> None:
    fill(root, "1/1.jpg", "2/2.jpg")
    (root / "1" / "again").symlink_to(root)
    with pytest.raises(ValueError, match="the link 1/again leads to a folder that holds it"):
        images_of(root)


@pytest.mark.parametrize("names", [[], ["a.txt"], [".jpg"]])
def test_a_folder_without_images_is_refused(root: Path, names: list[str]) -> None:
    root.mkdir()
    fill(root, *names)
    with pytest.raises(ValueError, match="no image"):
        images_of(root)


def test_two_images_of_one_key_are_refused(root: Path) -> None:
    fill(root, "a.jpg", "a.png")
    with pytest.raises(ValueError, match=r"'a\.(jpg|png)' and 'a\.(jpg|png)' would have the same key"):
        images_of(root)


def test_a_name_that_is_no_text_is_refused(root: Path) -> None:
    root.mkdir()
    with open(os.fsencode(root) + b"/\xff.jpg", "wb"):
        pass
    with pytest.raises(ValueError, match="not UTF-8"):
        images_of(root)
