"""Labels as people write them -> integers: whole numbers, synsets of ImageNet, or names of classes.

A table has labels of one kind. Empty, `-1`, `nan`, `null`, `none` and `na` mean that there is no label.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute

from pipelines.packing.classes import MAX_LABEL, Classes, imagenet_synsets

pc: Any = pyarrow.compute  # its stubs know neither plain values beside arrays nor sums of Booleans
CLASS_NAMES = "class names"
"""The kind of labels that are names."""
_NO_LABEL = ("", "-1", "-1.0", "<na>", "n/a", "na", "nan", "none", "null")
_NUMBER = r"^\d{1,10}(\.0*)?$"
_SYNSET = re.compile(r"n\d{8}")
_KINDS = {"numbers": "a whole number", "synsets": "a synset of ImageNet"}


class LabelError(ValueError):
    """A text that is no label; `row` is its position among those that were read at once."""

    def __init__(self, row: int, fault: str) -> None:
        super().__init__(fault)
        self.row = row


class LabelReader:
    """Reads labels in parts; the first one sets the kind of all.

    Attributes:
        kind: numbers, synsets or class names; None before the first label.
        absent: texts that said that there is no label.
        lowest: the lowest label.
    """

    def __init__(self, classes: Classes | None = None) -> None:
        self.kind: str | None = None
        self.absent = 0
        self.lowest: int | None = None
        self._source = classes.source if classes else None
        self._names = classes.every_name() if classes else {}
        self._size = max(classes.labels.values(), default=-1) + 1 if classes else MAX_LABEL + 1

    def labels(self, texts: pa.StringArray) -> pa.Int32Array:
        """The label of each text, null for those that say that there is none.

        Raises:
            LabelError: if a text is no label, or of another kind than those before.
        """
        trimmed = pc.fill_null(pc.utf8_trim_whitespace(texts), "")
        named = _lookup(trimmed, self._names)
        absent = pc.and_(pc.is_in(pc.utf8_lower(trimmed), pa.array(_NO_LABEL)), pc.is_null(named))
        other = {CLASS_NAMES: named} if self._names else {"synsets": _lookup(trimmed, imagenet_synsets())}
        found = {**other, "numbers": _numbers(trimmed)}
        present = pc.invert(absent)
        self.kind = self.kind or _kind(found, present)
        values = found[self.kind] if self.kind else pa.nulls(len(texts), pa.int64())
        wrong = pc.and_(present, pc.fill_null(pc.greater_equal(values, self._size), True))
        if (row := first(wrong)) >= 0:
            raise LabelError(row, self._fault(texts[row].as_py(), values[row].as_py()))
        self.absent += pc.sum(absent).as_py() or 0
        lowest = pc.min(pc.if_else(present, values, None)).as_py()
        self.lowest = min((label for label in (self.lowest, lowest) if label is not None), default=None)
        return pc.if_else(present, values, None).cast(pa.int32())

    def _fault(self, text: str, value: int | None) -> str:
        if value is not None:
            of_classes = f", the labels of {self._source}" if self._source else ""
            return f"label {text!r} is not an integer from 0 to {self._size - 1}{of_classes}"
        if self.kind == CLASS_NAMES:
            return f"label {text!r} is not among the names of {self._source}"
        if self.kind:
            return f"label {text!r} is not {_KINDS[self.kind]}, as labels before it are"
        if _SYNSET.fullmatch(text.strip()):
            return f"label {text!r} is none of ImageNet's 1000 synsets; --classes FILE gives the order of other classes"
        if self._source:
            return f"label {text!r} is not among the names of {self._source}"
        return (
            f"label {text!r} is not an integer from 0 to {MAX_LABEL}, nor a synset such as n01440764; "
            "for names of classes give --classes FILE, one name a line in the order of labels"
        )

    def __str__(self) -> str:
        kind = self.kind or "none given"
        source = f" of {self._source}" if self.kind == CLASS_NAMES else ""
        return f"{kind}{source}" + (f", {self.absent:,} without a label" if self.absent else "")


def first_synsets(texts: pa.StringArray) -> pa.StringArray:
    """The synset in each of Kaggle's prediction strings.

    Raises:
        LabelError: if one has objects of several synsets.
    """
    first: list[str] = []
    for row, text in enumerate(cast(Sequence[str | None], texts.to_pylist())):
        synsets = list(dict.fromkeys(_SYNSET.findall(text or "")))
        if len(synsets) > 1:
            raise LabelError(row, f"label {text!r} names {len(synsets)} synsets, and an image has one label")
        first.append(synsets[0] if synsets else text or "")
    return pa.array(first, pa.string())


def is_none(text: str) -> bool:
    """Whether `text` says that there is no label."""
    return text.strip().lower() in _NO_LABEL


def first(marks: pa.BooleanArray) -> int:
    """The position of the first true mark, or -1."""
    return pc.index(marks, True).as_py()


def is_label(text: str, classes: Classes | None = None) -> bool:
    """Whether a word can be a label: a whole number, a synset, a class name, or none."""
    plain = text.strip()
    number = bool(re.fullmatch(_NUMBER, plain) or _SYNSET.fullmatch(plain)) or is_none(plain)
    return number or (classes is not None and plain in classes.every_name())


def _numbers(texts: pa.StringArray) -> pa.Int64Array:
    whole = pc.match_substring_regex(texts, _NUMBER)
    digits = pc.replace_substring_regex(pc.if_else(whole, texts, None), r"\.0*$", "")
    return digits.cast(pa.int64())


def _lookup(texts: pa.StringArray, labels: dict[str, int]) -> pa.Int64Array:
    place = pc.index_in(texts, pa.array(list(labels), pa.string()))
    return pc.take(pa.array(list(labels.values()), pa.int64()), place)


def _kind(found: dict[str, pa.Int64Array], present: pa.BooleanArray) -> str | None:
    """The kind of the first label; None where the first text that is there is of no kind."""
    row = first(present)
    return next((kind for kind, values in found.items() if row >= 0 and values[row].is_valid), None)
