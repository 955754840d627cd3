"""Tallies and cells -> the contents of a report: JSON, CSV, Parquet, and the terminal's table.

Nothing here writes: bytes go out. They hold no time, host or throughput, so that a resumed evaluation and an
uninterrupted one give the same bytes. The reliability diagram is in `reliability`.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.evaluation.metrics import reasons
from pipelines.evaluation.result import ModelResult
from pipelines.records import Shard

CSV_COLUMNS = (
    *("model", "top1", "top1_err", "top5", "top5_err", "param_count", "img_size", "crop_pct", "interpolation"),
    *("dataset", "n", "errors", "top1_low", "top1_high", "top1_valid", "top5_valid", "nll", "ece", "brier"),
    *("precision", "decoder", "batch_size", "channels_last", "fold", "compile"),
    *("weights", "plan", "shards", "committed"),
)
"""timm's nine columns first, so that programs that read its results files can read these."""
_STORED_NAMES = {"plan_digest": "plan"}
"""Names in the files, of fields that are called otherwise here."""
_WHERE_GIVEN = ("passed_over", "weights_steps")
"""Fields that are in the JSON only where they say something."""
_PERCENT = ("top1", "top5", "top1_low", "top1_high", "top1_valid", "top5_valid")
_SCORES = ("nll", "ece", "brier")

ERRORS = pa.schema(
    [
        ("shard", pa.string()),
        ("index", pa.int32()),
        ("offset", pa.int64()),  # byte of the tar at which the image begins; null in Parquet and for wrong labels
        ("key", pa.string()),
        ("label", pa.int32()),
        ("reason", pa.string()),
        ("error", pa.string()),  # null where the only fault is the label
    ]
)
"""One row for each image that could not be judged."""


def results_json(results: Iterable[ModelResult]) -> bytes:
    """`{"results": [...]}`, best first: model, dataset, the fields of `Summary`, then the facts; None becomes null."""
    rows = [_json_row(result) for result in by_top1(results)]
    return (json.dumps({"results": rows}, indent=2, allow_nan=False) + "\n").encode()


def results_csv(results: Iterable[ModelResult]) -> bytes:
    """CSV_COLUMNS, best first; accuracies in percent, `param_count` in millions, empty where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(result) for result in by_top1(results))
    return text.getvalue().encode()


def per_class_parquet(result: ModelResult, names: Sequence[str] | None = None) -> bytes:
    """Columns class, name, n, errors, top1, top5 (counts) and accuracy: strict top-1 in percent, null without rows.

    Raises:
        ValueError: if the number of `names` is not that of the classes.
    """
    counts = result.tally.classes
    classes = len(counts.n)
    if names is not None and len(names) != classes:
        raise ValueError(f"{len(names)} class names for the {classes} classes of {result.model}")
    columns: dict[str, Any] = {
        "class": pa.array(range(classes), pa.int32()),
        "name": pa.array(names or [None] * classes, pa.string()),
        "n": counts.n,
        "errors": counts.errors,
        "top1": counts.top1,
        "top5": counts.top5,
        "accuracy": pa.array(100 * counts.top1 / np.maximum(counts.n, 1), mask=counts.n == 0),
    }
    return parquet_bytes(pa.table(columns))


def errors_table(
    cells: Iterable[tuple[Shard, pa.Table]], num_classes: int, subset: Sequence[int] | None = None
) -> pa.Table:
    """The rows of `cells` that cannot be judged, with shard and reason (see ERRORS), in the order of the cells."""
    listed = (_errors(shard, cell, reasons(cell, num_classes, subset)) for shard, cell in cells)
    return pa.concat_tables([ERRORS.empty_table(), *listed])


def result_table(results: Iterable[ModelResult]) -> Table:
    """The terminal's table, best first; accuracies are strict and in percent, `95 %` is top-1's Wilson interval.

    In a terminal of 80 columns only a long model name is wrapped.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("model", overflow="fold", min_width=12)
    table.add_column("mode", min_width=5)
    for heading in ("top-1", "95 %", "top-5", "n", "errors", "NLL", "ECE", "params"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in by_top1(results):
        table.add_row(*_table_row(result))
        if not result.complete:
            table.caption = f"* incomplete: {result.committed} of {result.shards} shards"
    return table


def error_lines(result: ModelResult) -> list[str]:
    """`COUNT  REASON` for each reason, the most frequent first."""
    counts = sorted(result.tally.reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    return [f"{count:>7}  {reason}" for reason, count in counts]


def by_top1(results: Iterable[ModelResult]) -> list[ModelResult]:
    """By strict top-1, best first, those without one last; ties by name, so that no order of arrival shows."""
    return sorted(results, key=lambda r: (-score_or_last(r.summary.top1), r.model, r.dataset, r.weights, r.plan_digest))


def score_or_last(value: float | None) -> float:
    """`value` for sorting: None comes after every number."""
    return -1.0 if value is None else value


def _facts(result: ModelResult) -> dict[str, object]:
    names = [field.name for field in fields(result) if field.name not in {"tally", "settings", *_WHERE_GIVEN}]
    return {_STORED_NAMES.get(name, name): getattr(result, name) for name in names} | asdict(result.settings)


def _json_row(result: ModelResult) -> dict[str, object]:
    named = {"model": result.model, "dataset": result.dataset}
    given = {name: value for name in _WHERE_GIVEN if (value := getattr(result, name))}
    return named | asdict(result.summary) | _facts(result) | {"complete": result.complete} | given


def _csv_row(result: ModelResult) -> dict[str, object]:
    scored = result.summary
    percents = {name: _decimal(getattr(scored, name), 3) for name in _PERCENT}
    scores = {name: _decimal(getattr(scored, name), 6) for name in _SCORES}
    return {
        **_facts(result),
        **percents,
        **scores,
        "top1_err": _complement(percents["top1"]),
        "top5_err": _complement(percents["top5"]),
        "param_count": f"{result.param_count / 1e6:.2f}",
        "crop_pct": f"{result.crop_pct:.3f}",
        "n": scored.n,
        "errors": scored.errors,
    }


def _table_row(result: ModelResult) -> list[str]:
    scored = result.summary
    interval = "" if scored.top1_low is None else f"{scored.top1_low:.1f}-{scored.top1_high:.1f}"
    return [
        result.model,
        result.mode,
        _decimal(scored.top1, 2),
        interval,
        _decimal(scored.top5, 2),
        str(scored.n) if result.complete else f"{scored.n}*",
        str(scored.errors),
        _decimal(scored.nll, 3),
        _decimal(scored.ece, 3),
        f"{result.param_count / 1e6:.1f}M",
    ]


def _decimal(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _complement(percent: str) -> str:
    """100 less the percentage as printed, so that the two columns add up."""
    return percent and f"{100 - float(percent):.3f}"


def _errors(shard: Shard, cell: pa.Table, why: "pa.ChunkedArray[pa.StringScalar]") -> pa.Table:
    named = cell.append_column("reason", why)
    named = named.append_column("shard", pa.array([shard.name] * len(cell), pa.string()))
    return named.filter(named["reason"].is_valid()).select(ERRORS.names)


def parquet_bytes(table: pa.Table) -> bytes:
    """`table` as a Parquet file with zstd and page checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)  # pyright: ignore[reportUnknownMemberType]
    return sink.getvalue().to_pybytes()
