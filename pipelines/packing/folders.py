"""A folder of images on this machine -> images to be packed.

Names that begin with a dot are skipped. Links are followed, to files and to folders: subsets of a dataset are often
made of links to its class folders.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from pipelines import storage
from pipelines.data.suffixes import DECODED
from pipelines.packing.images import Image, above, sort_images, suffix_of
from pipelines.packing.labelling import METADATA, Given, Labelling, Tree, label


def list_images(root: Path, given: Given) -> tuple[list[Image], Labelling]:
    """The images below the folder `root`, sorted by key, and their labels (see `labelling`).

    Raises:
        ValueError: if there is no image, two images have the same key, a link leads nowhere or around, or the labels
            are inconsistent.
    """
    entries = list(_walk(root))
    own = _own_table(given)
    files = [name for name in entries if not name.endswith("/") and not _is_same(root / name, own)]
    images = sort_images((name for name in files if name.rpartition("/")[2] not in METADATA), root)
    tree = Tree(
        where=str(root),
        images=images,
        others=[name for name in files if suffix_of(name) not in DECODED],
        empty={name.rstrip("/") for name in entries if name.endswith("/")} - above(images),
        read=lambda name: (root / name).read_bytes(),
    )
    found = label(tree, given)
    pairs = zip(images, found.labels, strict=True)
    return [Image(name=name, label=value, path=f"{root}/{name}") for name, value in pairs], found


def _own_table(given: Given) -> Path | None:
    """The file of labels, which may lie among the images."""
    if given.table is None or storage.is_remote(given.table):
        return None
    return storage.local_path(given.table).resolve()


def _is_same(path: Path, other: Path | None) -> bool:
    return other is not None and path.name == other.name and path.resolve() == other


def _walk(root: Path, folder: str = "", within: tuple[str, ...] = ()) -> Iterator[str]:
    """The path of every file below `root`, and of every folder, with a slash at its end."""
    here = os.path.realpath(root / folder)
    if here in within:
        raise ValueError(f"{root}: the link {folder.rstrip('/')} leads to a folder that holds it; remove it")
    with os.scandir(root / folder) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in found:
        name = f"{folder}{entry.name}"
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise ValueError(f"{root}: {name} is a link to {os.readlink(entry.path)}, where nothing is")
        if entry.is_dir():
            yield f"{name}/"
            yield from _walk(root, f"{name}/", (*within, here))
        elif entry.is_file():
            yield name
