"""packing.imagenet_archives, on small made-up archives: labels, bytes read in place, and errors."""

import gzip
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipelines.packing import archives, imagenet_archives
from pipelines.packing.images import Image
from pipelines.packing.labelling import Given
from zoo import imagenet

Members = list[tuple[str, bytes]]
WriteTar = Callable[[Path, Members], bytes]
IDS = random.Random(0).sample(range(1, 1001), 1000)
"""ILSVRC2012_ID of each class, by label: as in the real devkit, in another order than the labels."""


def list_images(path: Path, devkit: Path | None = None) -> Sequence[Image]:
    with archives.opened(path) as archive:
        return archives.list_images(archive, Given(), devkit)[0]


def meta(ids: Sequence[int] = IDS) -> bytes:
    """As in the devkit: a struct array of leaves and inner nodes; numbers may be doubles, MATLAB's default."""
    leaves = [(float(number), synset, "words", 0) for number, synset in zip(ids, imagenet.synsets(), strict=False)]
    inner = [(1001, "n00001740", "entity", 3), (1002, "n00001930", "physical entity", 2)]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    file = io.BytesIO()
    savemat(file, {"synsets": np.array(sorted(leaves + inner), dtype=kinds)[:, None]})
    return file.getvalue()


@pytest.fixture
def write_devkit(tmp_path: Path, write_tar: WriteTar) -> Callable[..., Path]:
    def write(truth: str, meta_mat: bytes | None = None) -> Path:
        members = [(imagenet_archives.GROUND_TRUTH, truth.encode())]
        if meta_mat is not None:
            members.append((imagenet_archives.META, meta_mat))
        path = tmp_path / "devkit.tar.gz"
        path.write_bytes(gzip.compress(write_tar(tmp_path / "devkit.tar", members)))
        return path

    return write


def truth(labels: Sequence[int]) -> str:
    return "".join(f"{IDS[label]}\n" for label in labels)


def val_members(count: int) -> Members:
    return [(f"ILSVRC2012_val_{number:08d}.JPEG", b"image %d" % number) for number in range(1, count + 1)]


def test_validation_labels_are_sorted_synset_order_in_the_order_of_names(
    tmp_path: Path, write_tar: WriteTar, write_devkit: Callable[..., Path]
) -> None:
    write_tar(tmp_path / "val.tar", val_members(4)[::-1])
    images = list_images(tmp_path / "val.tar", write_devkit(truth([65, 970, 0, 999]), meta()))
    assert [(image.key, image.suffix, image.label, image.read()) for image in images] == [
        ("ILSVRC2012_val_00000001", "jpeg", 65, b"image 1"),
        ("ILSVRC2012_val_00000002", "jpeg", 970, b"image 2"),
        ("ILSVRC2012_val_00000003", "jpeg", 0, b"image 3"),
        ("ILSVRC2012_val_00000004", "jpeg", 999, b"image 4"),
    ]


@pytest.mark.parametrize(
    ("text", "mat", "message"),
    [
        (truth([1, 2]), meta(), "val.tar holds 3 images, and .*devkit.tar.gz has ground truth for 2"),
        (truth([1, 2, 3, 4]), meta(), "holds 3 images, and .* for 4"),
        ("1\n1001\n3\n", meta(), "line 2: '1001' is not the id of a class"),
        ("1\nx\n3\n", meta(), "line 2: 'x' is not the id of a class"),
        (truth([1, 2, 3]), meta(IDS[:998]), "the 998 classes without children .* are not ImageNet's 1000"),
        (truth([1, 2, 3]), b"no matlab file", "cannot read .*meta.mat"),
        (truth([1, 2, 3]), b"", "cannot read .*meta.mat"),
        (truth([1, 2, 3]), None, "lacks .*meta.mat"),
    ],
)
def test_ground_truth_that_does_not_agree_is_refused(
    tmp_path: Path, write_tar: WriteTar, write_devkit: Callable[..., Path], text: str, mat: bytes | None, message: str
) -> None:
    write_tar(tmp_path / "val.tar", val_members(3))
    with pytest.raises(ValueError, match=message):
        list_images(tmp_path / "val.tar", write_devkit(text, mat))


def test_validation_images_without_the_devkit_are_refused(tmp_path: Path, write_tar: WriteTar) -> None:
    write_tar(tmp_path / "val.tar", val_members(3))
    with pytest.raises(ValueError, match="give --devkit"):
        list_images(tmp_path / "val.tar")


def test_a_devkit_that_is_cut_is_refused(
    tmp_path: Path, write_tar: WriteTar, write_devkit: Callable[..., Path]
) -> None:
    write_tar(tmp_path / "val.tar", val_members(3))
    devkit = write_devkit(truth([1, 2, 3]), meta())
    devkit.write_bytes(devkit.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"devkit.tar.gz: not a tar, or damaged"):
        list_images(tmp_path / "val.tar", devkit)


@pytest.fixture
def train_tar(tmp_path: Path, write_tar: WriteTar) -> Path:
    def inner(synset: str) -> bytes:
        names = [f"{synset}_{number}.JPEG" for number in (10042, 10026)]
        return write_tar(tmp_path / "inner.tar", [(name, f"bytes of {name}".encode()) for name in names])

    write_tar(tmp_path / "train.tar", [(f"{imagenet.synsets()[n]}.tar", inner(imagenet.synsets()[n])) for n in (5, 0)])
    return tmp_path / "train.tar"


def test_training_images_are_read_in_place_with_their_class_in_the_key(train_tar: Path) -> None:
    images = list_images(train_tar)
    assert [(image.key, image.label) for image in images] == [
        ("n01440764/n01440764_10026", 0),
        ("n01440764/n01440764_10042", 0),
        ("n01496331/n01496331_10026", 5),
        ("n01496331/n01496331_10042", 5),
    ]
    assert [image.read().decode() for image in images] == [f"bytes of {image.name.split('/')[1]}" for image in images]


def test_a_training_tar_needs_no_devkit(train_tar: Path) -> None:
    with pytest.raises(ValueError, match=r"--devkit .* not with the tar of tars"):
        list_images(train_tar, train_tar)


@pytest.mark.parametrize("length", [100, 512, 2000, 512 * 3, 20480 - 512])
def test_an_archive_that_is_cut_is_refused_wherever_the_cut_is(train_tar: Path, length: int) -> None:
    train_tar.write_bytes(train_tar.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"train.tar.*: not a tar, or damaged"):
        list_images(train_tar)


def test_an_archive_that_is_cut_between_two_members_is_refused(tmp_path: Path, write_tar: WriteTar) -> None:
    whole = write_tar(tmp_path / "val.tar", val_members(3))
    (tmp_path / "val.tar").write_bytes(whole[:2048])
    with pytest.raises(ValueError, match="cut or damaged at byte 2048"):
        list_images(tmp_path / "val.tar")


@pytest.mark.parametrize("name", ["n00000000.tar", "notes.txt"])
def test_a_training_tar_with_anything_but_synsets_is_refused(tmp_path: Path, write_tar: WriteTar, name: str) -> None:
    write_tar(tmp_path / "train.tar", [("n99999999.tar", b""), (name, b"")])
    with pytest.raises(ValueError, match="is not the tar of one of ImageNet's 1000 synsets"):
        list_images(tmp_path / "train.tar")


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 10240, bytes(range(256)) * 8])
def test_what_is_no_tar_of_images_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "val.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a tar|no image"):
        list_images(tmp_path / "val.tar")
