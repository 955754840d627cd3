"""ImageNet as it is distributed: the validation tar with its devkit, and the training tar of tars.

Nothing is unpacked to disk: images are read from the archives, by offset. An archive that was cut short, or any count
or class that does not agree, is an error: labels that are off by one look like a bad model.
"""

import io
import tarfile
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast

from scipy.io import loadmat  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from scipy.io.matlab import MatReadError  # pyright: ignore[reportMissingTypeStubs]

from pipelines.packing.folders import Image, sort_images
from zoo import imagenet

GROUND_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
META = "ILSVRC2012_devkit_t12/data/meta.mat"


def list_images(path: Path, devkit: Path | None = None) -> list[Image]:
    """The images of ILSVRC2012_img_val.tar, with labels from `devkit`, or of ILSVRC2012_img_train.tar, sorted by key.

    Only headers are read: a minute or two for the 1.3 million of the training tar on a local SSD.

    Raises:
        ValueError: if `path` is neither, an archive was cut short, or the labels do not fit the images.
    """
    with _readable(path), tarfile.open(path, "r:") as tar:
        members = _members(tar)
    if not any(member.name.endswith(".tar") for member in members):
        return _validation(path, members, devkit)
    if devkit:
        raise ValueError(f"--devkit {devkit}: goes with ILSVRC2012_img_val.tar, not with the tar of tars {path}")
    return _training(path, members)


@contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a tar, or damaged: {error}") from error


def _members(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The files in `tar`, by name; tarfile takes a cut between two of them, or a damaged header, for the end."""
    members = [member for member in tar.getmembers() if member.isfile()]
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"cut or damaged at byte {tar.offset}")
    for member in members:
        member.name = PurePosixPath(member.name).as_posix()  # some archives write ./name
    return sorted(members, key=lambda member: member.name)


def _validation(path: Path, members: Sequence[tarfile.TarInfo], devkit: Path | None) -> list[Image]:
    names = sort_images((member.name for member in members), path)
    if devkit is None:
        raise ValueError(f"{path}: has no labels in it; give --devkit ILSVRC2012_devkit_t12.tar.gz")
    labels = _ground_truth(devkit)
    if len(labels) != len(names):
        raise ValueError(f"{path} holds {len(names)} images, and {devkit} has ground truth for {len(labels)}")
    place = {member.name: member for member in members}
    return [_image(path, name, label, place[name]) for name, label in zip(names, labels, strict=True)]


def _ground_truth(devkit: Path) -> list[int]:
    """The labels of the validation images, in the order of their names."""
    with _readable(devkit), tarfile.open(devkit, "r:gz") as tar:
        members = {member.name: member for member in _members(tar)}
        if missing := {GROUND_TRUTH, META} - members.keys():
            raise ValueError(f"{devkit}: lacks {' and '.join(sorted(missing))}; expected ILSVRC2012_devkit_t12.tar.gz")
        truth, meta = (_content(tar, members[name]) for name in (GROUND_TRUTH, META))
    label_of = _labels_by_id(meta, devkit)
    ids = truth.decode(errors="replace").split()
    for line, text in enumerate(ids, 1):
        if text not in label_of:
            raise ValueError(f"{devkit}: {GROUND_TRUTH} line {line}: {text!r} is not the id of a class in meta.mat")
    return [label_of[text] for text in ids]


def _labels_by_id(meta: bytes, devkit: Path) -> dict[str, int]:
    """The label of each ILSVRC2012_ID, as text: the devkit's order of classes is not that of models."""
    try:
        synsets = cast(Iterable[Mapping[str, Any]], loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        ids = {str(entry["WNID"]): str(int(entry["ILSVRC2012_ID"])) for entry in synsets if entry["num_children"] == 0}
    except (MatReadError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{devkit}: cannot read {META}: {error!r}") from error
    if ids.keys() != set(imagenet.synsets()):
        raise ValueError(f"{devkit}: the {len(ids)} classes without children in {META} are not ImageNet's 1000")
    return {ids[synset]: label for label, synset in enumerate(imagenet.synsets())}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None, member.name  # only files are listed
    return stream.read()


def _training(path: Path, members: Sequence[tarfile.TarInfo]) -> list[Image]:
    label_of = {synset: label for label, synset in enumerate(imagenet.synsets())}
    images: list[Image] = []
    with tarfile.open(path, "r:") as tar:
        for member in members:
            synset = PurePosixPath(member.name).name.removesuffix(".tar")
            if synset not in label_of:
                raise ValueError(f"{path}: {member.name} is not the tar of one of ImageNet's 1000 synsets")
            with _readable(path / member.name), tarfile.open(fileobj=tar.extractfile(member), mode="r:") as inner:
                place = {f"{synset}/{image.name}": image for image in _members(inner)}
            names = sort_images(place, path / member.name)
            images += [_image(path, name, label_of[synset], place[name], member.offset_data) for name in names]
    return images


def _image(path: Path, name: str, label: int, member: tarfile.TarInfo, offset: int = 0) -> Image:
    return Image(name=name, label=label, path=str(path), start=offset + member.offset_data, size=member.size)
