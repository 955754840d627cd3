"""Which labels the images of a folder or archive have: those of a table, or of the folders that hold them.

A table is the file of `--labels`, or the `metadata.csv`, `.jsonl` or `.parquet` that Hugging Face's imagefolder has
beside the images. Images directly in the root have no folder and so no label.
"""

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pipelines import storage
from pipelines.data.suffixes import LABEL, last_suffix
from pipelines.packing import class_folders, columns, label_table
from pipelines.packing import classes as class_names
from pipelines.packing.classes import Classes
from pipelines.packing.images import key_of
from pipelines.packing.label_table import LabelTable
from pipelines.packing.matching import match
from pipelines.packing.text import examples

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_TABLE = re.compile(
    r"(annotation|label|metadata|solution|target|ground_?truth)[^/]*\.(csv|json|jsonl|parquet|tsv|txt)$"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user says of labels: the URI of a table, and classes, or the words `sorted` or `none` for them."""

    table: str | None = None
    classes: Classes | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """The label of each image, in order.

    Attributes:
        labels: None where an image has none.
        understood: one line that says where they come from.
        classes: the label of each class name, where names were given.
    """

    labels: list[int | None]
    understood: str
    classes: Classes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The names in a folder or archive.

    Attributes:
        where: the root, for messages.
        images: names of images, sorted by key.
        others: names of other files.
        empty: folders without an image.
        read: the bytes of a file, by name.
    """

    where: str
    images: Sequence[str]
    others: Sequence[str]
    empty: Collection[str]
    read: Callable[[str], bytes]


def given(table: str | None, classes: str | None) -> Given:
    """What the options `--labels` and `--classes` say.

    Raises:
        ValueError: if they contradict each other, or the file of classes cannot be used.
    """
    if classes == class_names.NONE and table:
        raise ValueError(f"--classes none: leaves images without labels, and --labels {table} gives them; choose one")
    words = {None, class_names.SORTED, class_names.NONE}
    return Given(table=table, classes=classes if classes in words else class_names.read_classes(classes or ""))


def label(tree: Tree, options: Given) -> Labelling:
    """The labels of the images of `tree`.

    Raises:
        ValueError: if the table or the folders cannot be understood, or contradict each other.
    """
    keys = [key_of(name) for name in tree.images]
    if options.classes == class_names.NONE:
        return Labelling(labels=[None] * len(keys), understood="none, as --classes none says")
    if options.table:
        table = label_table.parse(storage.read(options.table), options.table, options.classes)
        return _by_table(table, keys)
    _require_no_shard(tree, keys)
    if options.classes is None and (found := _metadata(tree, keys)):
        _require_agreement(tree, keys, found)
        return found
    return _by_folders(tree, keys, options)


def _require_no_shard(tree: Tree, keys: Sequence[str]) -> None:
    """Raise if members .cls beside the pictures have their labels, which would be lost."""
    known = set(keys)
    if beside := [name for name in tree.others if last_suffix(name) == LABEL and key_of(name) in known]:
        raise ValueError(
            f"{tree.where}: is a shard already, with labels in its .cls members ({examples(sorted(beside))}); "
            "jobs.evaluate --data reads it, as a tar; --labels FILE or --classes none packs its pictures again"
        )


def _by_folders(tree: Tree, keys: Sequence[str], options: Given) -> Labelling:
    if not any("/" in key for key in keys):
        if options.classes is not None:
            raise ValueError(f"{tree.where}: --classes names folders, and the images lie in none; give --labels FILE")
        _log.warning(
            "%s: images lie directly in it and there is no --labels file, so no image gets a label%s",
            tree.where,
            _hint(tree),
        )
        return Labelling(labels=[None] * len(keys), understood="none")
    try:
        found = class_folders.by_folder(keys, tree.where, options.classes, tree.empty)
    except ValueError as error:
        raise ValueError(f"{error}{_hint(tree)}") from None
    return Labelling(labels=list(found.labels), understood=found.understood, classes=found.classes)


def _hint(tree: Tree) -> str:
    """The tables among the images that may have their labels."""
    tables = [name for name in sorted(tree.others) if _TABLE.search(name.lower())]
    return f"; there is {examples([f'--labels {tree.where}/{name}' for name in tables])}" if tables else ""


def _by_table(table: LabelTable, keys: Sequence[str]) -> Labelling:
    labels, idle, ways = match(table, keys)
    bare = [key for key in keys if key not in labels]
    if len(bare) == len(keys):
        raise ValueError(
            f"{table.shown}: has no label for any image; its keys: {examples(idle) or 'none'}; "
            f"the images': {examples(bare)}"
        )
    if bare or idle:
        _log.warning(
            "%s: %d images have no label there and are packed without%s; %d labels without an image are left out%s",
            *(table.shown, len(bare), f" ({examples(bare)})" if bare else ""),
            *(len(idle), f" ({examples(idle)})" if idle else ""),
        )
    labelled = [labels.get(key) for key in keys]
    return Labelling(labels=labelled, understood=table.understood(ways), classes=table.classes)


def _metadata(tree: Tree, keys: Sequence[str]) -> Labelling | None:
    """The labels of an imagefolder's metadata, in the root or in a folder that holds all images."""
    fitting: dict[str, Labelling] = {}
    for name in sorted(tree.others):
        folder, slash, file = name.rpartition("/")
        if file not in METADATA or not all(key.startswith(f"{folder}{slash}") for key in keys):
            continue
        below = [key.removeprefix(f"{folder}{slash}") for key in keys]
        if found := _of_metadata(tree, name, below):
            fitting[name] = found
    if len({tuple(found.labels) for found in fitting.values()}) > 1:
        raise ValueError(f"{tree.where}: {' and '.join(fitting)} give other labels; name one with --labels")
    return next(iter(fitting.values()), None)


def _of_metadata(tree: Tree, name: str, keys: Sequence[str]) -> Labelling | None:
    """The labels in one file of metadata; None if it has no column of labels, or fits no image."""
    shown = f"{tree.where}/{name}"
    try:
        table = label_table.parse(tree.read(name), shown)
    except columns.NoLabelError:
        _log.warning("%s: has no column of labels and is left out", shown)
        return None
    except ValueError as error:
        raise ValueError(f"{error}; --labels {shown} takes other options with it, or remove it") from None
    if not match(table, keys)[0]:
        _log.warning("%s: names no image that is there (%s) and is left out", shown, examples(table.names))
        return None
    return _by_table(table, keys)


def _require_agreement(tree: Tree, keys: Sequence[str], found: Labelling) -> None:
    """Raise if folders of numbers or synsets give other labels than the metadata."""
    try:
        folders = class_folders.by_folder(keys, tree.where, None).labels
    except ValueError:
        return  # folders that say no labels contradict none
    pairs = zip(keys, found.labels, folders, strict=True)
    for key, label, by_folder in pairs:
        if label is not None and label != by_folder:
            raise ValueError(
                f"{tree.where}: {key} has label {label} by {found.understood.partition(': ')[0]} and {by_folder} by "
                "its folder; --labels chooses that table; remove it to choose the folders"
            )
