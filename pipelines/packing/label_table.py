"""A table of labels -> names of images and their labels: text in columns, `NAME LABEL` lines, JSON, Parquet.

`text` and `columns` say what forms a table may have. Nothing is guessed silently: `LabelTable.understood` says which
columns were read and what kind of labels they hold.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.packing import classes as class_names
from pipelines.packing import columns, json_text, labels, numbered, text
from pipelines.packing.classes import Classes

_PARQUET = b"PAR1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """Rows of names and labels.

    Attributes:
        shown: the table, for messages.
        named: the column or field of names, for messages.
        labelled: that of labels, with their kind and number.
        by_key: whether names are keys, so that one which is an image's key means no other image.
        names: of images.
        labels: None where a row says that there is none.
        places: where each row stands, such as `line 2`.
        classes: those that the labels name, if they are names.
    """

    shown: str
    named: str
    labelled: str
    by_key: bool
    names: list[str]
    labels: list[int | None]
    places: list[str]
    classes: Classes | None

    def understood(self, ways: str) -> str:
        """One line that says how the table was read; `ways` says how names were matched with images."""
        mapping = f"; {len(self.classes.labels):,} classes, {self.classes}" if self.classes else ""
        return f"{self.shown}: {self.named}{f' ({ways})' if ways else ''}, {self.labelled}{mapping}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Texts as they stand in a table: names, labels, and where each row is."""

    names: list[str]
    labels: list[str]
    places: list[str]
    named: str
    labelled: str
    by_key: bool
    predictions: bool


def parse(data: bytes, shown: str, classes: Classes | str | None = None) -> LabelTable:
    """The names and labels in a table.

    Args:
        data: the table's bytes.
        shown: names it in messages.
        classes: the labels of class names; `sorted` for positions among the sorted names of the table itself.

    Raises:
        ValueError: if the table cannot be read, or a label is none; the message names the line.
    """
    known = classes if isinstance(classes, Classes) else None
    rows = _rows(data, shown, classes)
    try:
        texts = pa.array(rows.labels, pa.string())
        texts = labels.first_synsets(texts) if rows.predictions else texts
        if isinstance(classes, str):
            names = cast(list[str], texts.to_pylist())
            known = class_names.sorted_classes(name.strip() for name in names if not labels.is_none(name))
        reader = labels.LabelReader(known)
        values = reader.labels(texts)
    except labels.LabelError as error:
        raise ValueError(f"{shown} {rows.places[error.row]}: {error}") from None
    if known and reader.kind == labels.CLASS_NAMES:
        known.require_no_header(reader.lowest == 0, shown)
    return LabelTable(
        shown=shown,
        named=rows.named,
        labelled=f"{rows.labelled} ({reader}), {len(rows.names):,} rows",
        by_key=rows.by_key,
        names=rows.names,
        labels=values.to_pylist(),
        places=rows.places,
        classes=known if reader.kind == labels.CLASS_NAMES else None,
    )


def _rows(data: bytes, shown: str, classes: Classes | str | None) -> _Rows:
    if data.startswith(_PARQUET):
        return _of_parquet(data, shown, classes)
    content = text.decode(data, shown)
    if content.lstrip()[:1] in {"{", "["}:
        return _of_json(content, shown)
    known = classes if isinstance(classes, Classes) else None
    form = text.recognise(content, shown, columns.LABEL_TABLE, lambda word: labels.is_label(word, known))
    return _of_words(content, shown, form) if form.delimiter == " " else _of_columns(content, shown, form)


def _of_columns(content: str, shown: str, form: text.Form) -> _Rows:
    chosen = columns.LABEL_TABLE.choose(form.names, f"{shown} line 1")
    name_at, label_at = form.names.index(chosen.name), form.names.index(chosen.label or "")
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=form.delimiter)
    names: list[str] = []
    texts: list[str] = []
    places: list[str] = []
    try:
        for number, row in enumerate(row for row in reader if not _is_blank(row, form.delimiter)):
            if form.header and not number:
                continue
            if len(row) != len(form.names) or not row[name_at].strip():
                raise ValueError(f"expected one field for each of {', '.join(form.names)}, found {len(row)}: {row}")
            names.append(row[name_at])
            texts.append(row[label_at])
            places.append(f"line {reader.line_num}")
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{shown} line {reader.line_num}: {error}") from None
    return _rows_of(chosen, names, texts, places, form)


def _is_blank(row: Sequence[str], delimiter: str) -> bool:
    """Whether the line of `row` has nothing but space."""
    return not "".join(row).strip() and (len(row) < 2 or delimiter == "\t")


def _of_words(content: str, shown: str, form: text.Form) -> _Rows:
    """Lines of a name, which may have spaces, and a label without."""
    chosen = columns.LABEL_TABLE.choose(form.names, f"{shown} line 1")
    lines = [(number, line) for number, line in enumerate(text.lines_of(content), 1) if line.strip()]
    parts = [(number, line.rsplit(None, 1)) for number, line in (lines[1:] if form.header else lines)]
    if short := [number for number, words in parts if len(words) < 2]:
        raise ValueError(f"{shown} line {short[0]}: expected a name and a label")
    names, texts = [words[0].strip() for _, words in parts], [words[1] for _, words in parts]
    if form.names[0] == chosen.label:
        raise ValueError(f"{shown} line 1: expected the name first and the label last, as in NAME LABEL")
    return _rows_of(chosen, names, texts, [f"line {number}" for number, _ in parts], form)


def _of_json(content: str, shown: str) -> _Rows:
    """A list of objects, an object a line, or one object whose keys are names."""
    entries = _entries(content, shown)
    if len(entries) == 1 and columns.LABEL_TABLE.is_header(list(entries[0][1])) is False:
        pairs = [{"key": name, "label": label} for name, label in entries[0][1].items()]
        entries = [(f"entry {number}", pair) for number, pair in enumerate(pairs, 1)]
    names = list(dict.fromkeys(name for _, entry in entries for name in entry))
    chosen = columns.LABEL_TABLE.choose(names, shown)
    for place, entry in entries:
        if not _text_of(entry.get(chosen.name)).strip():
            raise ValueError(f"{shown} {place}: has no {chosen.name}")
    return _rows_of(
        chosen,
        [str(entry[chosen.name]) for _, entry in entries],
        [_text_of(entry.get(chosen.label or "")) for _, entry in entries],
        [place for place, _ in entries],
        None,
    )


def _entries(content: str, shown: str) -> list[tuple[str, dict[str, Any]]]:
    lines = [(number, line) for number, line in enumerate(text.lines_of(content), 1) if line.strip()]
    try:
        whole = json_text.parse(content, shown)
        every = cast(list[Any], whole) if isinstance(whole, list) else [whole]
        found = [(f"entry {number}", entry) for number, entry in enumerate(every, 1)]
    except json_text.NoJsonError:
        found = [(f"line {number}", json_text.parse(line, f"{shown} line {number}")) for number, line in lines]
    for place, entry in found:
        if not isinstance(entry, dict):
            raise ValueError(f"{shown} {place}: expected an object with the name and label of an image")
    return found


def _of_parquet(data: bytes, shown: str, classes: Classes | str | None) -> _Rows:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        chosen = columns.LABEL_TABLE.choose(file.schema_arrow.names, shown)
        table = file.read([chosen.name, chosen.label or ""])  # pyright: ignore[reportUnknownMemberType]
        names, values = (cast(list[Any], table[name].to_pylist()) for name in (chosen.name, chosen.label or ""))
    except pa.ArrowException as error:
        raise ValueError(f"{shown}: {error}") from None
    if meanings := numbered.meanings(file.schema_arrow, chosen.label or "", shown, classes):
        values = numbered.translated(values, meanings, shown)
    if None in names:
        raise ValueError(f"{shown} row {names.index(None)}: has no {chosen.name}")
    places = [f"row {row}" for row in range(len(names))]
    rows = _rows_of(chosen, [_text_of(name) for name in names], [_text_of(value) for value in values], places, None)
    return replace(rows, labelled=f"{rows.labelled}{numbered.SAID}") if meanings else rows


def _text_of(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def _rows_of(
    chosen: columns.Chosen, names: list[str], texts: list[str], places: Sequence[str], form: text.Form | None
) -> _Rows:
    """The rows of a table; `form` is None where columns have names by the format."""
    label = chosen.label or ""
    named, labelled = (form.called(name) if form else f"column {name}" for name in (chosen.name, label))
    return _Rows(
        names=names,
        labels=texts,
        places=list(places),
        named=named,
        labelled=labelled,
        by_key=chosen.name == "key",
        predictions=columns.plain(label) == columns.PREDICTIONS,
    )
