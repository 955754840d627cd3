"""Images to be packed, and the folders they come from: with a labels CSV, or a folder for each class.

An image's key is its path without suffix. Images are not decoded: a broken one is packed as it is, and evaluation
reports it. Nothing is guessed: a wrong label, a key with two labels, or two images with one key is an error before
packing begins. A warning names what is left out. Names that begin with a dot are skipped; links are followed to files,
not to folders.
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
from pipelines.data.suffixes import IMAGE_SUFFIXES
from zoo import imagenet

_MAX_LABEL = (1 << 31) - 1
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
        return _key(self.name)

    @property
    def suffix(self) -> str:
        """The suffix in lower case, without the dot."""
        return _suffix(self.name)

    @property
    def about(self) -> Mapping[str, object]:
        """No further columns."""
        return {}

    def read(self) -> bytes:
        """The encoded bytes, unchanged."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def list_images(root: Path, labels: str | None = None) -> list[Image]:
    """The images below the folder `root`, sorted by key, with the labels of the CSV at the URI `labels`.

    Without a CSV (see `read_labels`) each folder in `root` is a class. If all their names are synsets, labels are
    ImageNet's indices, otherwise positions among the sorted names. If any image lies directly in `root`, no image gets
    a label.

    Raises:
        ValueError: if there is no image, two images have the same key, or the labels are inconsistent.
    """
    labels_file = storage.local_path(labels).resolve() if labels and not storage.is_remote(labels) else None
    names = sort_images((name for name in _walk(root) if (root / name).resolve() != labels_file), root)
    keys = [_key(name) for name in names]
    label_of = _csv_labels(keys, labels) if labels else _folder_labels(root, keys)
    return [Image(name=name, label=label_of(key), path=f"{root}/{name}") for name, key in zip(names, keys, strict=True)]


def sort_images(names: Iterable[str], where: object) -> list[str]:
    """The images among `names`, sorted by key. A warning counts other files; hidden ones are skipped.

    Args:
        names: paths below the root, with slashes.
        where: the folder or archive, for messages.

    Raises:
        ValueError: if there is no image, two images have the same key, or a key is not UTF-8.
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
        _log.warning("%s: %d files that are not images are left out (%s)", where, len(others), _examples(others))
    return images


def read_labels(uri: str) -> dict[str, int]:
    """The label of each key in a CSV with the columns `key` and `label`.

    Raises:
        ValueError: if a column is missing, a label is no integer >= 0, or a key has two labels; it names the line.
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
    """The path of every file below `root`; a linked folder, which is not entered, ends in a slash."""
    for above, subfolders, files in os.walk(root, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        linked = [f"{name}/" for name in subfolders if os.path.islink(os.path.join(above, name))]
        yield from (Path(above, name).relative_to(root).as_posix() for name in files)
        yield from linked


def _raise(error: OSError) -> None:
    raise error  # by default os.walk skips a folder that it cannot read


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
            f"{uri}: has no label for any image; its keys: {_examples(idle) or 'none'}; the images': {_examples(bare)}"
        )
    if bare or idle:
        _log.warning(
            "%s: %d images have no label there and are packed without%s; %d labels without an image are left out%s",
            *(
                uri,
                len(bare),
                f" ({_examples(bare)})" if bare else "",
                len(idle),
                f" ({_examples(idle)})" if idle else "",
            ),
        )
    return labels.get


def _folder_labels(root: Path, keys: Sequence[str]) -> Callable[[str], int | None]:
    if not all("/" in key for key in keys):
        _log.warning("%s: images lie directly in it and there is no --labels CSV, so no image gets a label", root)
        return lambda key: None
    classes = sorted({_class(key) for key in keys})
    index = {synset: label for label, synset in enumerate(imagenet.synsets())}
    if not index.keys() >= set(classes):
        _require_no_empty_class(root, classes)
        index = {name: label for label, name in enumerate(classes)}
        _log.warning(
            "%s: labels are the positions of the %d sorted folder names (%s)", root, len(classes), _examples(classes)
        )
    return lambda key: index[_class(key)]


def _class(key: str) -> str:
    return key.partition("/")[0]


def _require_no_empty_class(root: Path, classes: Sequence[str]) -> None:
    folders = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if empty := sorted(folders - set(classes)):
        raise ValueError(
            f"{root}: no image in {_examples(empty)}, so labels by folder would shift; remove it or give --labels"
        )


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
