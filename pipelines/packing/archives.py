"""An archive of images -> images to be packed, with the labels that its unpacked folder would have.

A tar or zip is read in place. A compressed tar cannot be read by offset: it is inflated into a temporary file first,
which may not grow beyond all proportion. ImageNet's own archives are recognised (see `imagenet_archives`).
"""

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pipelines.data.suffixes import DECODED, is_picture
from pipelines.packing import imagenet_archives, zip_members
from pipelines.packing.images import Image, ZippedImage, above, sort_images, suffix_of
from pipelines.packing.labelling import METADATA, Given, Labelling, Tree, label
from pipelines.packing.tar_members import content, folders, members, readable

_OPEN: Mapping[bytes, Callable[[Path], object]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_ZIP = b"PK\x03\x04"
_ZSTD = b"\x28\xb5\x2f\xfd"
_FOREIGN: Mapping[bytes, str] = {
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive; unpack it first: 7z x",
    b"Rar!": "is a RAR archive; unpack it first: unrar x",
    b"PK\x05\x06": "is an empty zip",
    b"\x1f\x9d": "is compressed by compress; inflate it first: uncompress",
    b"\x04\x22\x4d\x18": "is compressed by lz4; inflate it first: lz4 -d",
    b"PAR1": "is Parquet, no archive of images; jobs.evaluate --data reads it as it is",
    b"\x89HDF": "is HDF5, no archive of images; write its images to a folder first",
}
"""What files that are no tar or zip begin with, and what to do with them."""
_TABLES = ("csv", "json", "jsonl", "lst", "tsv", "txt")
_BLOCK = 1 << 20
_LEAST, _MOST_TIMES = 1 << 30, 20
"""A compressed tar may inflate to so many bytes, or times its size: images hardly shrink, so more is no dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive as the user named it, and the file in which it is read: a temporary one if it was compressed."""

    named: Path
    path: Path


@contextmanager
def opened(path: Path) -> Generator[Archive]:
    """The archive at `path`, ready for reading; images of it can be read until this ends.

    Raises:
        ValueError: if it is compressed and damaged, inflates to too much, or is of another kind.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_ZSTD):
        raise ValueError(f"{path}: compressed by zstd; inflate it first: zstd -d {path.name}")
    if foreign := next((said for magic, said in _FOREIGN.items() if head.startswith(magic)), None):
        raise ValueError(f"{path}: {foreign}")
    if is_picture(path.name) and not _is_archive(path):
        raise ValueError(f"{path}: is one picture; give the folder that holds it")
    if suffix_of(path.name) in _TABLES and not _is_archive(path):
        raise ValueError(
            f"{path}: is a table or list, no archive of images; --keys packs the objects that it names, --labels FILE "
            "gives labels to the images of a folder or archive"
        )
    opener = next((opener for magic, opener in _OPEN.items() if head.startswith(magic)), None)
    if opener is None:
        yield Archive(named=path, path=path)
        return
    with tempfile.TemporaryDirectory(prefix="menagerie-") as folder:
        inflated = Path(folder, "inflated.tar")
        with readable(path):
            _inflate(cast(BinaryIO, opener(path)), inflated, max(_LEAST, _MOST_TIMES * path.stat().st_size), path)
        yield Archive(named=path, path=inflated)


def _is_archive(path: Path) -> bool:
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def list_images(archive: Archive, given: Given, devkit: Path | None = None) -> tuple[Sequence[Image], Labelling]:
    """The images of a tar or zip, sorted by key, and their labels.

    These are ground truth of `devkit` for ILSVRC2012_img_val.tar; synsets for ILSVRC2012_img_train.tar; otherwise as
    for a folder (see `labelling`).

    Raises:
        ValueError: if `archive` is neither, was cut short, or the labels do not fit the images.
    """
    with archive.path.open("rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    if zipped and devkit:
        raise ValueError(f"--devkit {devkit}: goes with ILSVRC2012_img_val.tar, not with {archive.named}")
    if zipped:
        return _of_zip(archive.path, given)
    with readable(archive.named), tarfile.open(archive.path, "r:") as tar:
        files, hollow = members(tar, archive.named), folders(tar)
    if any(member.name.endswith(".tar") for member in files):
        return _training(archive, files, given, devkit)
    return _of_tar(archive, (files, hollow), given, devkit)


def _inflate(stream: BinaryIO, target: Path, most: int, path: Path) -> None:
    size = 0
    with stream, target.open("wb") as file:
        while block := stream.read(_BLOCK):
            size += len(block)
            if size > most:
                raise ValueError(f"{path}: inflates to more than {most:,} bytes, {_MOST_TIMES} times its size or 1 GiB")
            file.write(block)


def _training(
    archive: Archive, files: Sequence[tarfile.TarInfo], given: Given, devkit: Path | None
) -> tuple[Sequence[Image], Labelling]:
    if devkit:
        raise ValueError(
            f"--devkit {devkit}: goes with ILSVRC2012_img_val.tar, not with the tar of tars {archive.named}"
        )
    if given != Given():
        raise ValueError(f"{archive.named}: a tar of tars of synsets has its labels; leave out --labels and --classes")
    images = imagenet_archives.training_images(archive.path, files)
    understood = f"the synset of each of {len(files):,} inner tars"
    return images, Labelling(labels=[image.label for image in images], understood=understood)


def _of_tar(
    archive: Archive, listed: tuple[Sequence[tarfile.TarInfo], Sequence[str]], given: Given, devkit: Path | None
) -> tuple[Sequence[Image], Labelling]:
    files, every_folder = listed
    place = {member.name: member for member in files}
    names = sort_images(_without_metadata([member.name for member in files]), archive.named)
    if devkit:
        if given != Given():
            raise ValueError(f"--devkit {devkit}: gives the labels; leave out --labels and --classes")
        labels = imagenet_archives.validation_labels(names, archive.named, devkit)
        found = Labelling(labels=list(labels), understood=f"ground truth of {devkit}, {len(labels):,} images")
    else:
        _require_labels(names, place, archive.named, given)
        tree = Tree(
            where=str(archive.named),
            images=names,
            others=_others(place),
            empty=set(every_folder) - above(names),
            read=lambda name: _bytes(archive.path, place[name]),
        )
        found = label(tree, given)
    pairs = zip(names, found.labels, strict=True)
    return [imagenet_archives.image_at(archive.path, name, value, place[name]) for name, value in pairs], found


def _bytes(path: Path, member: tarfile.TarInfo) -> bytes:
    with tarfile.open(path, "r:") as tar:
        return content(tar, member)


def _of_zip(path: Path, given: Given) -> tuple[Sequence[Image], Labelling]:
    with readable(path):
        archive = zipfile.ZipFile(path)
        files, every_folder = zip_members.members(archive)
    place = dict(files)
    names = sort_images(_without_metadata([name for name, _ in files]), path)
    for name in names:
        zip_members.require_readable(place[name], path)
    _require_labels(names, place, path, given)
    tree = Tree(
        where=str(path),
        images=names,
        others=_others(place),
        empty=set(every_folder) - above(names),
        read=lambda name: archive.read(place[name]),
    )
    found = label(tree, given)
    pairs = zip(names, found.labels, strict=True)
    return [
        ZippedImage(name=name, label=value, path=place[name].filename, archive=archive) for name, value in pairs
    ], found


def _without_metadata(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.rpartition("/")[2] not in METADATA]


def _others(names: Iterable[str]) -> list[str]:
    return [name for name in names if suffix_of(name) not in DECODED]


def _require_labels(names: Sequence[str], every: Iterable[str], path: Path, given: Given) -> None:
    """Raise if images lie in no folder: without labels, ImageNet's validation tar is of little use."""
    if given != Given() or any("/" in name for name in names):
        return
    if any(suffix_of(name) == "cls" for name in every):
        raise ValueError(f"{path}: is a shard already, with labels in its .cls members; jobs.evaluate --data reads it")
    raise ValueError(
        f"{path}: has no labels in it; give --devkit ILSVRC2012_devkit_t12.tar.gz, --labels FILE, "
        "or --classes none to pack it without"
    )
