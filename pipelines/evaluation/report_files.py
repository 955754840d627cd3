"""Tallies and cells -> what a person or a program reads: JSON, CSV, Parquet and the terminal's table.

Owns the files' columns, formats and order. Refuses everything that differs between two runs of the same evaluation (no
time, host or throughput), so a resumed evaluation and an uninterrupted one give the same bytes; and refuses to write:
bytes go out. The reliability diagram is in `plots`.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.evaluation.metrics import Summary, Tally, reasons, summary
from pipelines.records import Settings, Shard

CSV_COLUMNS = (
    *("model", "top1", "top1_err", "top5", "top5_err", "param_count", "img_size", "crop_pct", "interpolation"),
    *("dataset", "n", "errors", "top1_low", "top1_high", "top1_valid", "top5_valid", "nll", "ece", "brier"),
    *("precision", "decoder", "batch_size", "channels_last", "fold", "compile"),
    *("weights", "plan", "shards", "committed"),
)
"""timm's nine columns first, so that what reads its results files reads ours."""
_PERCENT = ("top1", "top5", "top1_low", "top1_high", "top1_valid", "top5_valid")
_SCORES = ("nll", "ece", "brier")

ERRORS = pa.schema(
    [
        ("shard", pa.string()),
        ("index", pa.int32()),
        ("offset", pa.int64()),  # byte of the tar at which the image begins; null in Parquet and for labels alone
        ("key", pa.string()),
        ("label", pa.int32()),
        ("reason", pa.string()),
        ("error", pa.string()),  # null where the only fault is the label
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """One model's tally on one dataset, and the facts under which it was measured.

    `param_count` is a number of parameters, `img_size` in pixels; `weights` is a SHA-256 and `plan` the digest of the
    settings that the cells depend on. Of the dataset's `shards`, `committed` have a cell: where they differ, the scores
    are of an incomplete set and every form of the report says so.
    """

    model: str
    dataset: str
    param_count: int
    img_size: int
    crop_pct: float
    interpolation: str
    weights: str
    settings: Settings
    decoder: str
    plan: str
    shards: int
    committed: int
    tally: Tally

    @property
    def mode(self) -> str:
        """What of the settings tables show: `fp32 exact`."""
        return f"{self.settings.precision} {self.decoder}"

    @property
    def complete(self) -> bool:
        """Whether every shard of the dataset is in the tally."""
        return self.committed == self.shards

    @property
    def summary(self) -> Summary:
        """The reported numbers."""
        return summary(self.tally)


def results_json(results: Iterable[ModelResult]) -> bytes:
    """`{"results": [...]}`, best first: model, dataset, every field of `Summary`, then the facts; null for None."""
    rows = [_json_row(result) for result in by_top1(results)]
    return (json.dumps({"results": rows}, indent=2, allow_nan=False) + "\n").encode()


def results_csv(results: Iterable[ModelResult]) -> bytes:
    """CSV_COLUMNS, best first; accuracies in percent, `param_count` in millions, nothing where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(result) for result in by_top1(results))
    return text.getvalue().encode()


def per_class_parquet(result: ModelResult, names: Sequence[str] | None = None) -> bytes:
    """Columns class, name, n, errors, top1, top5 (counts) and accuracy: strict top-1 in percent, null without rows.

    Raises:
        ValueError: if there are not as many `names` as classes.
    """
    counts = result.tally.classes
    classes = len(counts.n)
    if names is not None and len(names) != classes:
        raise ValueError(f"{len(names)} class names for the {classes} classes of {result.model}")
    columns = {
        "class": pa.array(range(classes), pa.int32()),
        "name": pa.array(names or [None] * classes, pa.string()),
        "n": counts.n,
        "errors": counts.errors,
        "top1": counts.top1,
        "top5": counts.top5,
        "accuracy": pa.array(100 * counts.top1 / np.maximum(counts.n, 1), mask=counts.n == 0),
    }
    return _parquet(pa.table(columns))


def errors_table(
    cells: Iterable[tuple[Shard, pa.Table]], num_classes: int, subset: Sequence[int] | None = None
) -> pa.Table:
    """The rows of `cells` that cannot be judged, with shard and reason (see ERRORS), in the order given."""
    listed = (_errors(shard, cell, reasons(cell, num_classes, subset)) for shard, cell in cells)
    return pa.concat_tables([ERRORS.empty_table(), *listed])


def errors_parquet(
    cells: Iterable[tuple[Shard, pa.Table]], num_classes: int, subset: Sequence[int] | None = None
) -> bytes:
    """`errors_table` as a Parquet file."""
    return _parquet(errors_table(cells, num_classes, subset))


def result_table(results: Iterable[ModelResult]) -> Table:
    """The terminal's table, best first; accuracies strict and in percent, `95 %` is top-1's Wilson interval.

    In a terminal of 80 columns only a long model name is folded.
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
    """`COUNT  REASON` of each reason, the most frequent first."""
    counts = sorted(result.tally.reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    return [f"{count:>7}  {reason}" for reason, count in counts]


def by_top1(results: Iterable[ModelResult]) -> list[ModelResult]:
    """By strict top-1, best first and those without one last; ties by name, so that no order of arrival shows."""
    return sorted(results, key=lambda r: (-_number(r.summary.top1), r.model, r.dataset, r.weights, r.plan))


def _number(value: float | None) -> float:
    return -1.0 if value is None else value


def _facts(result: ModelResult) -> dict[str, object]:
    own = {field.name: getattr(result, field.name) for field in fields(result)}
    return {name: value for name, value in own.items() if name not in {"tally", "settings"}} | asdict(result.settings)


def _json_row(result: ModelResult) -> dict[str, object]:
    named = {"model": result.model, "dataset": result.dataset}
    return named | asdict(result.summary) | _facts(result) | {"complete": result.complete}


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
    """What is missing to 100 of the percentage as printed, so that the two columns add up."""
    return percent and f"{100 - float(percent):.3f}"


def _errors(shard: Shard, cell: pa.Table, why: pa.ChunkedArray) -> pa.Table:
    named = cell.append_column("reason", why)
    named = named.append_column("shard", pa.array([shard.name] * len(cell), pa.string()))
    return named.filter(named["reason"].is_valid()).select(ERRORS.names)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()
