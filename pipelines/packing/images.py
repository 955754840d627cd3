"""Images to be packed, wherever their bytes lie, and the names by which they are sorted.

An image's name is its path below the root of its folder or archive; its key is the name without suffix. Images are not
decoded: a broken one is packed as it is, and evaluation reports it.
"""

import logging
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipelines.data.suffixes import DECODED, UNDECODED
from pipelines.packing.tar_members import DAMAGED
from pipelines.packing.text import examples

_UNPACKED = (*UNDECODED, "svg")
"""Suffixes of pictures that are not packed."""
_ARCHIVES = ("7z", "bz2", "gz", "rar", "tar", "tgz", "tzst", "xz", "zip", "zst")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image to be packed: `size` bytes of the file `path` from `start` on, or the whole file if `size` is -1.

    `name` is its path below the root of the folder or archive. Only `read` touches the bytes.
    """

    name: str
    label: int | None
    path: str
    start: int = 0
    size: int = -1

    @property
    def key(self) -> str:
        """The name without its suffix."""
        return key_of(self.name)

    @property
    def suffix(self) -> str:
        """The suffix in lower case, without the dot."""
        return suffix_of(self.name)

    @property
    def about(self) -> Mapping[str, object]:
        """No further columns."""
        return {}

    def read(self) -> bytes:
        """The encoded bytes, unchanged."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZippedImage(Image):
    """An image in the open zip `archive`, whose member `path` is; zip has a checksum, which `read` compares."""

    archive: zipfile.ZipFile

    def read(self) -> bytes:
        """The encoded bytes, unchanged.

        Raises:
            ValueError: if they are damaged.
        """
        try:
            return self.archive.read(self.path)
        except DAMAGED as error:
            raise ValueError(f"{self.archive.filename}: {self.path} is damaged: {error}") from error


def key_of(name: str) -> str:
    """The name without its suffix."""
    return name.rpartition(".")[0]


def suffix_of(name: str) -> str:
    """The suffix in lower case, without the dot."""
    return name.rpartition(".")[2].lower()


def sort_images(names: Iterable[str], where: object) -> list[str]:
    """The images among `names`, sorted by key. Warnings count what is left out; hidden files are skipped.

    Args:
        names: paths below the root, with slashes.
        where: the folder or archive, for messages.

    Raises:
        ValueError: if there is no image, two images have the same key, or a key is not UTF-8.
    """
    seen = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    images = sorted((name for name in seen if suffix_of(name) in DECODED), key=key_of)
    if not images:
        raise ValueError(f"{where}: no image ({', '.join(DECODED)}) among {len(seen)} files{_shown(seen)}")
    for first, second in pairwise(images):
        if key_of(first) == key_of(second):
            raise ValueError(f"{where}: {first!r} and {second!r} would have the same key")
    for name in images:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"{where}: the name {name!r} is not UTF-8, so it cannot be a key")
    _warn_of_others([name for name in seen if suffix_of(name) not in DECODED], where)
    return images


def _shown(names: Sequence[str]) -> str:
    """The first of `names`, and what to do with archives among them."""
    archives = sorted(name for name in names if suffix_of(name) in _ARCHIVES)
    hint = f"; --images takes a tar or zip itself, others are unpacked first: {examples(archives)}" if archives else ""
    return hint or (f" ({examples(sorted(names))})" if names else "")


def above(names: Iterable[str]) -> set[str]:
    """Every folder that holds one of `names`, or a folder that does."""
    holding = {name.rpartition("/")[0] for name in names}
    return {"/".join(folder.split("/")[:depth]) for folder in holding for depth in range(1, folder.count("/") + 2)}


def _warn_of_others(names: Sequence[str], where: object) -> None:
    pictures = sorted(name for name in names if "." in name and suffix_of(name) in _UNPACKED)
    if pictures:
        kinds = Counter(suffix_of(name) for name in pictures)
        counts = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        _log.warning(
            "%s: %d pictures of kinds that are not packed (%s) are left out (%s); convert them to %s",
            *(where, len(pictures), counts, examples(pictures), "jpg or png"),
        )
    if others := sorted(set(names) - set(pictures)):
        _log.warning("%s: %d files that are not images are left out (%s)", where, len(others), examples(others))
