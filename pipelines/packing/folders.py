"""Images to be packed, and the folders they come from: with a labels CSV, or a folder for each class.

Owns what an image's key is (its path without suffix) and where its label comes from. Refuses to look into an image: a
broken one is packed as it is, and evaluation reports it. Refuses to guess: a wrong label, a key with two labels, two
images of one key stop the packing before it begins. What is left out is said in a warning. Names that begin with a dot
are passed over; links are followed to files, not to folders.
"""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipelines import storage
from pipelines.data.formats import IMAGE_SUFFIXES
from zoo import imagenet

_MAX_LABEL = (1 << 31) - 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image to be packed: `size` bytes of the file `path` from `start` on, or all of it where `size` is -1.

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
        return _key(self.name)

    @property
    def suffix(self) -> str:
        """In lower case, without the dot."""
        return _suffix(self.name)

    @property
    def about(self) -> Mapping[str, object]:
        """What else is to lie beside it: nothing."""
        return {}

    def read(self) -> bytes:
        """The bytes as they are."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def list_images(root: Path, labels: str | None = None) -> list[Image]:
    """The images below the folder `root` by key, with the labels of the CSV at the URI `labels` (see `read_labels`).

    Without a CSV each class is a folder: its label is ImageNet's index where all of them are synsets, otherwise the
    position among their sorted names. Images directly in `root` have no label then.

    Raises:
        ValueError: if there is no image, two have the same key, or the labels cannot be trusted.
    """
    labels_file = storage.local_path(labels).resolve() if labels and not storage.is_remote(labels) else None
    names = sort_images((name for name in _walk(root) if (root / name).resolve() != labels_file), root)
    keys = [_key(name) for name in names]
    label_of = _csv_labels(keys, labels) if labels else _folder_labels(root, keys)
    return [Image(name=name, label=label_of(key), path=f"{root}/{name}") for name, key in zip(names, keys, strict=True)]


def sort_images(names: Iterable[str], where: object) -> list[str]:
    """The images among `names`, by key; others are counted in a warning, hidden ones passed over.

    Raises:
        ValueError: if there is no image, two have the same key, or a key is not UTF-8.
    """
    seen = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    images = sorted((name for name in seen if _suffix(name) in IMAGE_SUFFIXES), key=_key)
    if not images:
        raise ValueError(f"{where}: no image ({', '.join(IMAGE_SUFFIXES)}) among {len(seen)} files")
    for first, second in pairwise(images):
        if _key(first) == _key(second):
            raise ValueError(f"{where}: {first!r} and {second!r} would have the same key")
    for name in images:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"{where}: the name {name!r} is not UTF-8, so it cannot be a key")
    if len(seen) > len(images):
        others = sorted(name for name in seen if _suffix(name) not in IMAGE_SUFFIXES)
        _log.warning("%s: %d files that are no images are left out (%s)", where, len(others), _first(others))
    return images


def read_labels(uri: str) -> dict[str, int]:
    """Key -> label of a CSV with the columns `key` and `label`.

    Raises:
        ValueError: with the line, if a column is missing, a label is no integer >= 0, or a key has two labels.
    """
    try:
        text = storage.read(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{uri}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    rows = csv.DictReader(io.StringIO(text, newline=""))
    labels: dict[str, int] = {}
    try:
        if missing := {"key", "label"} - set(rows.fieldnames or ()):
            raise ValueError(f"lacks column {' and '.join(sorted(missing))}; expected the header key,label")
        if len(set(rows.fieldnames or ())) < len(rows.fieldnames or ()):
            raise ValueError("names a column twice")
        for row in rows:
            if None in row or not row["key"]:
                raise ValueError(f"expected one field for each of {', '.join(rows.fieldnames or ())}")
            label = _label(row["label"] or "")
            if labels.setdefault(row["key"], label) != label:
                raise ValueError(f"{row['key']!r} has label {label} here and {labels[row['key']]} above")
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{uri} line {max(rows.line_num, 1)}: {error}") from error
    return labels


def _label(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= _MAX_LABEL):
        raise ValueError(f"label {text!r} is not an integer from 0 to {_MAX_LABEL}")
    return int(digits)


def _walk(root: Path) -> Iterator[str]:
    """Every file's path below `root`; a linked folder, which is not entered, by its name and a slash."""
    for above, subfolders, files in os.walk(root, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        linked = [f"{name}/" for name in subfolders if os.path.islink(os.path.join(above, name))]
        yield from (Path(above, name).relative_to(root).as_posix() for name in files)
        yield from linked


def _raise(error: OSError) -> None:
    raise error  # os.walk passes over a folder that it may not read


def _key(name: str) -> str:
    return name.rpartition(".")[0]


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _csv_labels(keys: Sequence[str], uri: str) -> Callable[[str], int | None]:
    labels = read_labels(uri)
    bare = [key for key in keys if key not in labels]
    idle = sorted(labels.keys() - set(keys))
    if len(bare) == len(keys):
        raise ValueError(
            f"{uri}: has no label for any image; its keys: {_first(idle) or 'none'}; the images': {_first(bare)}"
        )
    if bare or idle:
        _log.warning(
            "%s: %d images without a label there are packed unlabelled%s; %d labels without an image are left out%s",
            *(uri, len(bare), f" ({_first(bare)})" if bare else "", len(idle), f" ({_first(idle)})" if idle else ""),
        )
    return labels.get


def _folder_labels(root: Path, keys: Sequence[str]) -> Callable[[str], int | None]:
    if not all("/" in key for key in keys):
        _log.warning("%s: images lie directly in it and there is no --labels CSV; packed unlabelled", root)
        return lambda key: None
    classes = sorted({_class(key) for key in keys})
    index = {synset: label for label, synset in enumerate(imagenet.synsets())}
    if not index.keys() >= set(classes):
        _refuse_empty_classes(root, classes)
        index = {name: label for label, name in enumerate(classes)}
        _log.warning(
            "%s: labels are the positions of the %d sorted folder names (%s)", root, len(classes), _first(classes)
        )
    return lambda key: index[_class(key)]


def _class(key: str) -> str:
    return key.partition("/")[0]


def _refuse_empty_classes(root: Path, classes: Sequence[str]) -> None:
    folders = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if empty := sorted(folders - set(classes)):
        raise ValueError(
            f"{root}: no image in {_first(empty)}, and labels by folder would shift; remove it or give --labels"
        )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
