"""packing.folders: keys, order, and labels."""

import logging
import os
from pathlib import Path

import pytest

from pipelines.packing import folders
from tests.support.logs import messages_of
from zoo import imagenet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(f"bytes of {name}".encode())


def labels_of(images: list[folders.Image]) -> dict[str, int | None]:
    return {image.key: image.label for image in images}


def csv_file(root: Path, text: str) -> str:
    path = root.parent / "labels.csv"
    path.write_bytes(text.encode())
    return str(path)


def test_images_come_by_key_with_their_own_bytes(root: Path) -> None:
    fill(root, "b/2.JPG", "b/1.jpeg", "a.b/c d.Png", "é.webp")
    images = folders.list_images(root, csv_file(root, "key,label\nb/1,7\n"))
    assert [(image.key, image.suffix, image.label) for image in images] == [
        ("a.b/c d", "png", None),
        ("b/1", "jpeg", 7),
        ("b/2", "jpg", None),
        ("é", "webp", None),
    ]
    assert [image.read().decode() for image in images] == [f"bytes of {image.name}" for image in images]


def test_other_files_are_counted_and_hidden_ones_passed_over(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(root, "a/1.jpg", "a/notes.txt", "a/README", "a/.hidden.jpg", ".cache/2.jpg")
    assert [image.key for image in folders.list_images(root)] == ["a/1"]
    assert "2 files that are not images are left out (a/README, a/notes.txt)" in caplog.text


def test_links_are_followed_to_files_and_linked_folders_are_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(root.parent / "elsewhere", "1.jpg")
    root.mkdir()
    (root / "linked.jpg").symlink_to(root.parent / "elsewhere" / "1.jpg")
    (root / "folder").symlink_to(root.parent / "elsewhere")
    (image,) = folders.list_images(root)
    assert (image.key, image.read()) == ("linked", b"bytes of 1.jpg")
    assert "folder/" in caplog.text


def test_an_image_without_a_label_and_a_label_without_an_image_are_said_in_one_line(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(root, "1.jpg", "2.jpg")
    assert labels_of(folders.list_images(root, csv_file(root, "key,label\n2,5\n3,6\n"))) == {"1": None, "2": 5}
    (line,) = messages_of(folders.__name__, caplog)
    assert "1 images have no label there and are packed without (1)" in line
    assert "1 labels without an image are left out (3)" in line


def test_labels_that_fit_say_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(root, "a,b.jpg")
    path = csv_file(root, '\ufefflabel,key,note\r\n3,"a,b",x\r\n\r\n3,"a,b",again\r\n')
    assert labels_of(folders.list_images(root, path)) == {"a,b": 3}
    assert not messages_of(folders.__name__, caplog)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: lacks column key and label"),
        ("1,5\n", "line 1: lacks column key and label"),
        ("key;label\n1;5\n", "line 1: lacks column key and label"),
        ("key,label,label\n1,5,7\n", "names a column twice"),
        ("key,label\n1,cat\n", "line 2: label 'cat' is not an integer"),
        ("key,label\n2,1\n1,-1\n", "line 3: label '-1' is not an integer"),
        ("key,label\n1,\n", "line 2: label '' is not an integer"),
        ("key,label\n1\n", "line 2: label '' is not an integer"),
        ("key,label\n1,5.0\n", "line 2: label '5.0' is not an integer"),
        ("key,label\n1,2147483648\n", "line 2: label '2147483648' is not an integer from 0 to 2147483647"),
        ("key,label\n1,5,6\n", "line 2: expected one field for each of key, label"),
        ("key,label\n1,5\n2,1\n1,6\n", "line 4: '1' has label 6 here and 5 above"),
        ("key,label\n", "no label for any image; its keys: none; the images': 1"),
        ("key,label\n1.jpg,5\n", "no label for any image; its keys: 1.jpg; the images': 1"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(root: Path, text: str, message: str) -> None:
    fill(root, "1.jpg")
    path = csv_file(root, text)
    with pytest.raises(ValueError, match=r"labels\.csv") as error:
        folders.list_images(root, path)
    assert message in str(error.value)


def test_a_csv_that_is_not_text_is_refused(root: Path) -> None:
    fill(root, "1.jpg")
    path = root.parent / "labels.csv"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"labels.csv: not UTF-8 text \(invalid start byte at byte 0\)"):
        folders.list_images(root, str(path))


def test_synset_folders_have_imagenets_labels_even_where_few_are_present(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = imagenet.synsets()[7], imagenet.synsets()[999]
    fill(root, f"{last}/{last}_1.JPEG", f"{first}/{first}_1.JPEG")
    assert labels_of(folders.list_images(root)) == {f"{first}/{first}_1": 7, f"{last}/{last}_1": 999}
    assert not messages_of(folders.__name__, caplog)


def test_other_folders_are_labelled_by_position_and_it_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(root, "dog/1.jpg", "cat/2.jpg", "cat/more/3.jpg", f"{imagenet.synsets()[0]}/4.jpg")
    assert set(labels_of(folders.list_images(root)).items()) == {
        ("cat/2", 0),
        ("cat/more/3", 0),
        ("dog/1", 1),
        ("n01440764/4", 2),
    }
    assert "positions of the 3 sorted folder names (cat, dog, n01440764)" in caplog.text


def test_an_empty_class_folder_would_shift_the_labels(root: Path) -> None:
    fill(root, "cat/1.jpg", "dog/2.jpg")
    (root / "bird").mkdir()
    with pytest.raises(ValueError, match="no image in bird"):
        folders.list_images(root)


def test_images_directly_in_the_folder_are_unlabelled_and_it_is_said(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(root, "1.jpg", "cat/2.jpg")
    assert labels_of(folders.list_images(root)) == {"1": None, "cat/2": None}
    assert "no image gets a label" in caplog.text


@pytest.mark.parametrize("names", [[], ["a.txt"], [".jpg"]])
def test_a_folder_without_images_is_refused(root: Path, names: list[str]) -> None:
    root.mkdir()
    fill(root, *names)
    with pytest.raises(ValueError, match="no image"):
        folders.list_images(root)


def test_two_images_of_one_key_are_refused(root: Path) -> None:
    fill(root, "a.jpg", "a.png")
    with pytest.raises(ValueError, match=r"'a\.(jpg|png)' and 'a\.(jpg|png)' would have the same key"):
        folders.list_images(root)


def test_a_name_that_is_no_text_is_refused(root: Path) -> None:
    root.mkdir()
    with open(os.fsencode(root) + b"/\xff.jpg", "wb"):
        pass
    with pytest.raises(ValueError, match="not UTF-8"):
        folders.list_images(root)


def test_listing_reads_no_image(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    root.mkdir()
    (root / "gone.jpg").symlink_to(root / "nowhere")
    caplog.set_level(logging.ERROR)
    (image,) = folders.list_images(root)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        image.read()
