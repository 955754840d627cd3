"""What stands for a class in a shard -> its number, or why it is none.

Whole numbers count in any form (`7`, `7.0`), and so do the synsets of ImageNet. -1, null and NaN mean no label.
"""

import codecs
import json
import re
from decimal import Decimal
from functools import cache
from typing import NamedTuple, cast

from zoo import imagenet

_INTEGER = re.compile(rb"-?[0-9]+(\.0*)?")
SYNSET = re.compile(r"n[0-9]{8}")
LONGEST_TEXT = 100
"""Bytes of a label's text; more are not one."""
MAX_LABEL = (1 << 31) - 1
_NO_LABEL = -1
_NO_LABEL_TEXTS = frozenset({"nan", "null", "none", "na", "n/a", "<na>"})
_SHOWN = 40


class Label(NamedTuple):
    """A label, or None for none, and why there is none if what stands there cannot be one."""

    value: int | None = None
    error: str | None = None


def from_text(text: bytes) -> Label:
    """The label that `text` stands for."""
    bare = text.removeprefix(codecs.BOM_UTF8).strip()
    if len(text) <= LONGEST_TEXT and _INTEGER.fullmatch(bare):  # int() alone would take 1_0 for 10
        return _ranged(int(bare.partition(b".")[0]))
    shown = bare[:_SHOWN].decode(errors="replace")
    if shown.lower() in _NO_LABEL_TEXTS:
        return Label()
    if SYNSET.fullmatch(shown):
        return _of_synset(shown)
    return Label(error=f"bad label: {shown!r} is not an integer")


def from_value(value: object) -> Label:
    """The label that a value of a Parquet column stands for."""
    match value:
        case None:
            return Label()
        case bool():
            return Label(error=f"bad label: {value!r} is not an integer")
        case int():
            return _ranged(value)
        case float() | Decimal():
            return _of_number(value)
        case str():
            return from_text(value.encode(errors="replace")) if value.strip() else Label()
        case bytes():
            return from_text(value) if value.strip() else Label()
        case _:
            return Label(error=_plain(f"bad label: {str(value)[:_SHOWN]!r} is not an integer"))


def from_json(text: bytes, field: str) -> Label:
    """The label in the field `field` of the JSON object `text`."""
    try:
        content: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Label(error=_plain(f"bad label: not JSON: {error}"))
    if not isinstance(content, dict):
        return Label(error=f"bad label: JSON without the field {field!r}")
    fields = cast(dict[str, object], content)
    if field not in fields:
        there = ", ".join(sorted(fields)[:8]) or "no field"
        return Label(error=_plain(f"bad label: JSON without the field {field!r}; it has {there}")[:200])
    return from_value(fields[field])


def _plain(message: str) -> str:
    """Without lone surrogates, which JSON can hold and Arrow cannot."""
    return message.encode("utf-8", "backslashreplace").decode()


def from_folder(path: str) -> Label:
    """The label by the folder that holds the file `path`."""
    folder = path.rpartition("/")[0].rpartition("/")[2]
    if not folder:
        return Label(error="bad label: no folder holds the picture")
    return from_text(folder.encode(errors="replace"))


def _of_number(value: float | Decimal) -> Label:
    if value != value:  # NaN
        return Label()
    if value in {float("inf"), float("-inf")} or value != int(value):
        return Label(error=f"bad label: {value!r} is not an integer")
    return _ranged(int(value))


def _of_synset(synset: str) -> Label:
    number = _numbers().get(synset)
    return Label(number) if number is not None else Label(error=f"bad label: {synset} is none of ImageNet's 1000")


@cache
def _numbers() -> dict[str, int]:
    return {synset: number for number, synset in enumerate(imagenet.synsets())}


def _ranged(label: int) -> Label:
    if abs(label) >= 1 << 31:
        return Label(error=f"bad label: {label} is no 32-bit integer")
    return Label() if label == _NO_LABEL else Label(label)
