"""Names of columns in tables that people bring -> what the columns mean.

Case, spaces, dots, dashes and underscores in a name do not count. Of several names for the same thing the plainest
wins (`label` before `class_id`, `class_id` before `synset`); two that are equally plain are an error. Other columns are
ignored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_Ranks = tuple[tuple[str, ...], ...]
_PATHS = (
    *("path", "file", "filename", "filepath", "image", "imagefile", "imageid", "imagename", "imagepath"),
    *("imageuri", "imageurl", "img", "imgfile", "imgname", "imgpath", "s3uri", "s3url", "url"),
)
_LABELS: _Ranks = (
    ("label",),
    ("classid", "class", "classidx", "classindex", "labelid", "labels", "target", "targets"),
    ("synset", "synsetid", "wnid", "predictionstring"),
    ("classname", "labelname"),
)
PREDICTIONS = "predictionstring"
"""Kaggle's: a synset and a box, repeated for each object."""


class NoLabelError(ValueError):
    """A table in which no column can be the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The columns of a table that count, by their own names; `key` and `label` are None where there is none."""

    name: str
    label: str | None
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What a kind of table may call its columns.

    Attributes:
        named: for the image, in ranks.
        keys: for its key, in ranks.
        standard: names for the image and the label where there is no header.
        expected: for messages, the columns that are expected.
        names_alone: whether a table without labels is one.
    """

    named: _Ranks
    keys: _Ranks
    standard: tuple[str, str]
    expected: str
    names_alone: bool

    def is_header(self, names: Sequence[str]) -> bool:
        """Whether one of `names` names a column that counts."""
        known = {name for rank in (*self.named, *self.keys, *_LABELS) for name in rank}
        return any(plain(name) in known for name in names) and not any("://" in name for name in names)

    def choose(self, names: Sequence[str], shown: str) -> Chosen:
        """The columns of a table with the columns `names`.

        Raises:
            ValueError: if a column that is needed is not there, or two could be the same.
        """
        named, key, label = (_of_rank(ranks, names, shown) for ranks in (self.named, self.keys, _LABELS))
        if named is None or (label is None and not self.names_alone):
            lacking, fault = ("images", ValueError) if named is None else ("labels", NoLabelError)
            raise fault(f"{shown}: lacks a column of {lacking}; it has {', '.join(names)}; expected {self.expected}")
        return Chosen(name=named, label=label, key=key)


def plain(name: str) -> str:
    """The name of a column without case, spaces, dots, dashes and underscores."""
    return re.sub(r"[\s._-]", "", name.casefold())


def _of_rank(ranks: _Ranks, names: Sequence[str], shown: str) -> str | None:
    plainest = ranks[0][0] if ranks else ""
    for rank in ranks:
        exact = [name for name in names if name == plainest]
        found = exact or [name for name in names if plain(name) in rank]
        if len(set(found)) < len(found):
            raise ValueError(f"{shown}: names a column twice: {found[0]}")
        if len(found) > 1:
            raise ValueError(
                f"{shown}: the columns {' and '.join(found)} could mean the same; leave one, or call it {plainest}"
            )
        if found:
            return found[0]
    return None


LABEL_TABLE = Roles(
    named=(("key",), ("uri", *_PATHS), ("id", "name")),
    keys=(),
    standard=("key", "label"),
    expected="the columns key (or file_name, path, ImageId, …) and label (or class, target, synset, …)",
    names_alone=False,
)
URI_LIST = Roles(
    named=(("uri",), _PATHS),
    keys=(("key",),),
    standard=("uri", "label"),
    expected="a column uri (or path, file_name, …), and optionally key and label",
    names_alone=True,
)
