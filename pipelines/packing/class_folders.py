"""Folders of classes -> labels: an image's class is the folder that holds it.

All class folders lie in one folder. Their names are whole numbers, which are labels by value, or synsets of ImageNet,
whose labels are its indices, or other names, which need `--classes`. Anything else is an error that names the choices.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipelines.packing import classes as class_names
from pipelines.packing.classes import MAX_LABEL, Classes, imagenet_synsets
from pipelines.packing.text import examples

_SPLITS = frozenset(
    [
        *("dev", "devel", "eval", "holdout", "test", "testing", "train", "training", "trainval"),
        *("unlabeled", "unlabelled", "val", "valid", "validate", "validation"),
    ]
)
_CHOICES = "--labels FILE gives a label for each image, --classes none packs them without labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLabels:
    """The label of each image, in order; `understood` says how, `classes` has the mapping that was given for it."""

    labels: list[int]
    understood: str
    classes: Classes | None


def by_folder(
    keys: Sequence[str], where: object, given: Classes | str | None, empty: Collection[str] = ()
) -> FolderLabels:
    """The labels of the images `keys` by the folder that holds each.

    Args:
        keys: with at least one folder each.
        where: the root, for messages.
        given: classes, or `sorted` for positions among the sorted names, or None.
        empty: folders without an image, by their path below the root.

    Raises:
        ValueError: if folders give no labels, or not without a choice.
    """
    folders = _class_folders(keys, where, given)
    names = {folder: folder.rpartition("/")[2] for folder in set(folders)}
    _require_classes(sorted(names), where, given)
    if given == class_names.SORTED:
        _require_no_empty_class(next(iter(names)).rpartition("/")[0], empty, where)
        given = class_names.sorted_classes(names.values())
    label_of, understood = _label_of(sorted(names.values()), where, given)
    return FolderLabels(
        labels=[label_of[names[folder]] for folder in folders],
        understood=f"the folder that holds each image ({understood})",
        classes=given if isinstance(given, Classes) else None,
    )


def _class_folders(keys: Sequence[str], where: object, given: Classes | str | None) -> list[str]:
    """The folder of each image that is its class."""
    folders = [key.rpartition("/")[0] for key in keys]
    deep = sorted(keys, key=lambda key: key.count("/"))
    if deep[0].count("/") != deep[-1].count("/"):
        raise ValueError(
            f"{where}: images lie at several depths ({deep[0]}, {deep[-1]}), so their folders are no classes; "
            f"give --images the folder of the classes; {_CHOICES}"
        )
    above = [folder.rpartition("/")[0] for folder in folders]
    named = {folder.rpartition("/")[2] for folder in above}
    same_name = len({folder.rpartition("/")[2] for folder in folders}) == 1
    if given is None and same_name and len(named) > 1 and named <= imagenet_synsets().keys():
        return above  # SYNSET/images/1.JPEG, as Tiny ImageNet has it
    return folders


def _require_classes(folders: Sequence[str], where: object, given: Classes | str | None) -> None:
    """Raise if `folders` are several splits, or a single one, rather than classes."""
    above = sorted({folder.rpartition("/")[0] for folder in folders})
    names = [folder.rpartition("/")[2] for folder in folders]
    splits = [folder for folder in (above if len(above) > 1 else names) if _is_split(folder)]
    if len(above) > 1 or (len(splits) == len(names) > 1 and not isinstance(given, Classes)):
        several = above if len(above) > 1 else folders
        kind = "are splits of a dataset" if splits else "hold folders of classes each"
        one = next(folder for folder in several if folder)
        raise ValueError(f"{where}: {examples(several)} {kind}; pack one at a time: --images {where}/{one}; {_CHOICES}")
    if len(folders) == 1 and given is None:
        raise ValueError(
            f"{where}: all images lie in the folder {folders[0]}, and would have one class; "
            f"--images {where}/{folders[0]} packs them without labels, --labels FILE with a label for each, and "
            "--classes FILE says which class it is"
        )


def _is_split(folder: str) -> bool:
    name = folder.rpartition("/")[2].lower()
    return name in _SPLITS or name.rstrip("0123456789_-") in _SPLITS


def _label_of(names: Sequence[str], where: object, given: Classes | str | None) -> tuple[Mapping[str, int], str]:
    """The label of each folder name, and how it is known."""
    if isinstance(given, Classes):
        given.require(names, where)
        known = given.every_name()
        given.require_no_header(any(known[name] == 0 for name in names), where)
        return {name: known[name] for name in names}, f"{len(names):,} classes, {given}"
    numbers = [name for name in names if name.isascii() and name.isdigit()]
    index = imagenet_synsets()
    synsets = [name for name in names if name in index]
    if len(synsets) == len(names):
        return index, f"{len(names):,} synsets of ImageNet"
    if len(numbers) == len(names):
        return _by_value(names, where)
    for kind, some in (("synsets of ImageNet", synsets), ("whole numbers", numbers)):
        if some:
            others = [name for name in names if name not in set(some)]
            raise ValueError(
                f"{where}: {len(some)} folders are {kind} ({examples(some)}) and {len(others)} are not "
                f"({examples(others)}); remove these, or give --classes FILE with all names in the order of labels"
            )
    raise ValueError(
        f"{where}: the names of {len(names)} folders ({examples(names)}) say no labels; give --classes FILE with a "
        f"name a line in the order of the model's labels, or --classes sorted for positions by name; {_CHOICES}"
    )


def _by_value(names: Sequence[str], where: object) -> tuple[Mapping[str, int], str]:
    values: dict[int, str] = {}
    for name in names:
        if len(name) > 10 or int(name) > MAX_LABEL:
            raise ValueError(f"{where}: the folder {name} is not a label from 0 to {MAX_LABEL}; {_CHOICES}")
        if (other := values.setdefault(int(name), name)) != name:
            raise ValueError(f"{where}: the folders {other} and {name} are the same label {int(name)}; {_CHOICES}")
    numbers = sorted(values)
    return {name: value for value, name in values.items()}, f"{len(names):,} numbers, {numbers[0]} to {numbers[-1]}"


def _require_no_empty_class(above: str, empty: Collection[str], where: object) -> None:
    if hollow := sorted(folder for folder in empty if folder.rpartition("/")[0] == above):
        raise ValueError(
            f"{where}: no image in {examples(hollow)}, so labels by position would shift; "
            "remove it, or give --classes FILE"
        )
