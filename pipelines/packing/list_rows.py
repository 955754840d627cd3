"""The rows of a list as it is written, text or Parquet -> batches of its own columns, a part at a time.

The list is never held as a whole. Text has columns, or a name a line, or a name and a label (see `text`).
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.packing import columns, labels, numbered, text
from pipelines.packing.classes import Classes

pc: Any = pyarrow.compute  # its stubs lack plain values beside arrays
_CSV_BLOCK = 8 << 20
"""Bytes that are parsed at a time."""
_ONE_LINE = "\x01"
"""A delimiter that no name has, for lines that are read whole."""
_PAIR = r"^\s*(?P<uri>\S(?:.*\S)?)\s+(?P<label>\S+)\s*$"


def batches(
    stream: BinaryIO, uri: str, classes: Classes | None
) -> tuple[Iterator[pa.RecordBatch], columns.Chosen, str]:
    """Batches of the list's own columns; which count; and how the list was understood."""
    if is_parquet(uri):
        file = parquet(stream, uri)
        chosen = columns.URI_LIST.choose(file.schema_arrow.names, uri)
        wanted = [name for name in (chosen.name, chosen.key, chosen.label) if name]
        parts = file.iter_batches(columns=wanted)  # pyright: ignore[reportUnknownMemberType]
        said = f"Parquet: {', '.join(f'column {name}' for name in wanted)}"
        if chosen.label and (meanings := numbered.meanings(file.schema_arrow, chosen.label, uri, classes)):
            return _translated(parts, chosen.label, meanings, uri), chosen, f"{said}{numbered.SAID}"
        return parts, chosen, said
    head = stream.read(_CSV_BLOCK)
    stream.seek(0)
    encoding, content = text.encoding(head), text.decode(head, uri, whole=len(head) < _CSV_BLOCK)
    form = text.recognise(content, uri, columns.URI_LIST, lambda word: labels.is_label(word, classes))
    chosen = columns.URI_LIST.choose(form.names, f"{uri} line 1")
    wanted = [name for name in (chosen.name, chosen.key, chosen.label) if name]
    return _text_batches(stream, form, wanted, uri, encoding), chosen, _said(form, wanted)


def _translated(
    parts: Iterator[pa.RecordBatch], column: str, meanings: list[str], uri: str
) -> Iterator[pa.RecordBatch]:
    """Batches with the meanings of the numbers in `column` in their place."""
    start = 0
    for part in parts:
        values = part.to_pydict()[column]
        texts = pa.array(numbered.translated(values, meanings, uri, start), pa.string())
        start += len(part)
        whole = cast(Any, part)
        yield whole.set_column(part.schema.names.index(column), column, texts)


def _said(form: text.Form, wanted: list[str]) -> str:
    return f"{form}: {', '.join(map(form.called, wanted))}" if form.delimiter else str(form)


def _text_batches(
    stream: BinaryIO, form: text.Form, wanted: list[str], shown: str, encoding: str
) -> Iterator[pa.RecordBatch]:
    whole = form.delimiter in {"", " "}
    codec = "utf8" if encoding.startswith("utf-8") else encoding
    names = ["line"] if whole else list(form.names)
    read = pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK, column_names=names, skip_rows=form.header, encoding=codec)
    parse = pyarrow.csv.ParseOptions(
        delimiter=_ONE_LINE if whole else form.delimiter, quote_char=False if whole else '"'
    )
    # Other columns are not parsed: their content could make the list fail.
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), include_columns=names if whole else wanted
    )
    parts = pyarrow.csv.open_csv(stream, read, parse, convert)
    return (_words(batch, form, shown) for batch in parts) if whole else iter(parts)


def _words(batch: pa.RecordBatch, form: text.Form, shown: str) -> pa.RecordBatch:
    """Whole lines as columns: the label is the last word, if there are labels."""
    lines = cast(pa.StringArray, batch.column(0))
    if not form.delimiter:
        paths = pc.replace_substring_regex(pc.utf8_trim_whitespace(lines), r"^(\./)+", "")  # as find writes them
        return pa.record_batch([paths], names=[form.names[0]])
    pairs = pc.extract_regex(lines, _PAIR)
    if (row := labels.first(pc.is_null(pairs))) >= 0:
        raise ValueError(f"{shown}: expected a name and a label in each line, found {lines[row].as_py()!r}")
    return pa.record_batch([pc.struct_field(pairs, name) for name in ("uri", "label")], names=list(form.names))


def is_parquet(uri: str) -> bool:
    """Whether the list at `uri` is Parquet, by its name or its first bytes."""
    if uri.endswith(".parquet"):
        return True
    with storage.open_input(uri) as stream:
        return stream.read(4) == b"PAR1"


def parquet(stream: BinaryIO, uri: str) -> pq.ParquetFile:
    """The Parquet file in `stream`.

    Raises:
        ValueError: if it is none.
    """
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowException as error:
        raise ValueError(f"{uri}: {error}") from None
