"""Text files that people bring -> text, lines and the way their columns are written.

UTF-8, with or without a mark at its start, or UTF-16. Columns are separated by tabs, semicolons or commas, with or
without a header; or a line is a name and a label with spaces between, or a name alone. What could be read in two ways
is an error that shows the line.
"""

import codecs
import csv
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.data.suffixes import DECODED
from pipelines.packing import columns

_SAMPLE = 1000
"""Lines from which the form of a file without header is recognised; every other line must have the same form."""
_LONGEST = 100_000
"""Letters of a line from which its columns are recognised; csv refuses longer fields."""
_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas", " ": "NAME LABEL", "": "one name a line"}
_BOX = re.compile(r"[^\t]+\tn\d{8}(\t-?[\d.]+){4}\s*")
_LISTING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+ \S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the lines of a text are written.

    Attributes:
        delimiter: between columns; a space where the label is the last word, empty where a line is one name.
        names: of the columns, without quotes.
        header: the lines up to the one that has these names; 0 if none does.
    """

    delimiter: str
    names: tuple[str, ...]
    header: int = 0

    def __str__(self) -> str:
        return _NAMES[self.delimiter] if self.header else f"{_NAMES[self.delimiter]}, no header"

    def called(self, name: str) -> str:
        """What to call the column `name` in a message."""
        return f"column {name}" if self.header else f"field {self.names.index(name) + 1}"


def encoding(data: bytes) -> str:
    """The encoding that the first bytes of a text show."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = data[:256]
    if len(head) >= 4 and 0 not in head[::2] and not any(head[1::2]):
        return "utf-16-le"
    if len(head) >= 4 and 0 not in head[1::2] and not any(head[::2]):
        return "utf-16-be"
    return "utf-8-sig"


def decode(data: bytes, shown: str, whole: bool = True) -> str:
    """The text in `data`, which may end within a letter if it is not `whole`.

    Raises:
        ValueError: if it is compressed, or not UTF-8 or UTF-16; `shown` names it.
    """
    if data.startswith(b"\x1f\x8b"):
        raise ValueError(f"{shown}: compressed by gzip; inflate it first: gunzip")
    decoder = codecs.getincrementaldecoder(encoding(data))()
    try:
        content = decoder.decode(data, final=whole)
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    if "\0" in content:
        raise ValueError(f"{shown}: not UTF-8 text (a zero byte)")
    return content.removeprefix("\ufeff")


def lines_of(content: str) -> list[str]:
    """The lines of a text; unlike str.splitlines, signs that are not line ends stay parts of names."""
    return content.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def examples(names: Sequence[str], most: int = 3) -> str:
    """The first names, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def composed(name: str) -> str:
    """`name` with each letter and its accents as one letter, where there is one."""
    return unicodedata.normalize("NFC", name)


def other_form(name: str) -> str:
    """`name` with each accent a letter of its own if it is composed, as macOS writes names, and composed if not."""
    whole = composed(name)
    return whole if whole != name else unicodedata.normalize("NFD", name)


def recognise(content: str, shown: str, roles: columns.Roles, is_label: Callable[[str], bool]) -> Form:
    """The form of the text `content`, or of its first lines.

    Args:
        content: the text.
        shown: names it in messages.
        roles: the names of columns that its header may have.
        is_label: whether a word can be a label, where there is no header.

    Raises:
        ValueError: if it can be read in no way, or in several.
    """
    every = lines_of(content)
    lines = [line for line in every[:_SAMPLE] if line.strip()]
    if not lines:
        raise ValueError(f"{shown}: empty; expected lines with {roles.expected}")
    for delimiter in (",", "\t", ";", " "):
        names = _split(lines[0], delimiter)
        if roles.is_header(names) and (delimiter != " " or len(names) == 2):
            return Form(delimiter=delimiter, names=names, header=1 + every.index(lines[0]))
    return _without_header(every[:_SAMPLE], shown, roles, is_label)


def _split(line: str, delimiter: str) -> tuple[str, ...]:
    fields = line.split() if delimiter == " " else next(csv.reader([line[:_LONGEST]], delimiter=delimiter))
    return tuple(name.strip() for name in fields)


def _without_header(every: Sequence[str], shown: str, roles: columns.Roles, is_label: Callable[[str], bool]) -> Form:
    lines = [line for line in every if line.strip()]
    if roles.names_alone:
        _require_names_of_objects(lines[0], shown)
    name, label = roles.standard
    if form := _of_boxes(lines, roles):
        return form
    for delimiter in ("\t", ";", ","):
        rows = [_split(line, delimiter) for line in lines]
        if {len(row) for row in rows} != {2}:
            continue
        labelled = [all(is_label(row[place]) for row in rows) for place in (0, 1)]
        if all(labelled):
            raise ValueError(f"{shown} line 1: which field of {lines[0]!r} is the label? add a header, {name},{label}")
        if any(labelled):
            return Form(delimiter=delimiter, names=(name, label) if labelled[1] else (label, name))
    if all(_is_pair(line, roles, is_label) for line in lines):
        return Form(delimiter=" ", names=(name, label))
    if roles.names_alone and all(map(_is_name, lines)):
        return Form(delimiter="", names=(name,))
    unclear = next((line for line in lines if not (roles.names_alone and _is_name(line))), "")
    raise ValueError(
        f"{shown} line {every.index(unclear) + 1}: cannot tell the columns of {unclear[:80]!r}; "
        f"expected {roles.expected}, with a header that names them"
    )


def _of_boxes(lines: Sequence[str], roles: columns.Roles) -> Form | None:
    """An image, its synset and the corners of a box a line, by tabs, as val_annotations.txt of Tiny ImageNet has it."""
    if not all(_BOX.fullmatch(line) for line in lines):
        return None
    return Form(delimiter="\t", names=(*roles.standard, "x0", "y0", "x1", "y1"))


def _require_names_of_objects(line: str, shown: str) -> None:
    if _LISTING.match(line):
        raise ValueError(
            f"{shown} line 1: {line[:80]!r} is a listing of `aws s3 ls`, which names no bucket; write one URI a line: "
            "aws s3 ls --recursive s3://BUCKET/ | awk '{print \"s3://BUCKET/\"$4}'"
        )
    web = re.search(r"(?:^|[\t,; ])(https?://[^\t,; ]*)", line)
    if web:
        raise ValueError(f"{shown} line 1: {web_fault(web[1])}")


def web_fault(uri: str) -> str:
    """Why the address `uri` on the web cannot be packed, and what can."""
    flickr = "; YFCC100M lies in s3://multimedia-commons/data/images/XXX/YYY/HASH.jpg" if "flickr.com" in uri else ""
    return (
        f"{uri[:120]!r} is on the web, and objects are read from s3:// and local paths only; "
        f"copy the images to a bucket or disk and list them there{flickr}"
    )


def _is_pair(line: str, roles: columns.Roles, is_label: Callable[[str], bool]) -> bool:
    """A name and a label; a list of names takes it for that only where the name ends as images do."""
    name, *label = line.rsplit(None, 1)
    return bool(label) and is_label(label[0]) and "\t" not in name and (not roles.names_alone or _ends_as_image(name))


def _ends_as_image(name: str) -> bool:
    return name.rstrip().lower().endswith(tuple(f".{suffix}" for suffix in DECODED))


def _is_name(line: str) -> bool:
    """A path: without what may separate columns, or ending as images do."""
    return _ends_as_image(line) or not re.search(r"^[\[{]|[\t,; ]", line.strip())
