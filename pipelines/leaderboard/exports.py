"""The leaderboard -> tables for a terminal, CSV that begins with timm's columns, JSON, a model-index.

They hold no time or host: the same store gives the same bytes, except for images per second, which come from MLflow.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator

import yaml
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.evaluation import report_files
from pipelines.evaluation.metrics import Summary
from pipelines.evaluation.report_files import CSV_COLUMNS
from pipelines.evaluation.result import ModelResult, model_result
from pipelines.evaluation.verdicts import Verdict
from pipelines.leaderboard.board import Board, BoardEntry, Row

_MORE = ("claimed_top1", "difference", "difference_images", "verdict", "reasons")
_FACTS = ("macs", "images_per_second", "licence", "column", "data")
COLUMNS = (*CSV_COLUMNS, *_MORE, *_FACTS)
"""The columns of an evaluation's results, timm's nine first; then the verdict on top-1 and the model's facts."""
_METRICS = {"top1": "Top 1 Accuracy", "top5": "Top 5 Accuracy"}


def csv_bytes(board: Board) -> bytes:
    """COLUMNS, a line for each row on each set, best first in each set; empty where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row, entry in _entries(board):
        plain = next(csv.DictReader(io.StringIO(report_files.results_csv([_result(row, entry)]).decode())))
        verdict = _verdict_columns(top1_verdict(entry))
        writer.writerow({**plain, **_undefined(entry, ""), **verdict, **_facts(row, entry)})
    return text.getvalue().encode()


def json_bytes(board: Board) -> bytes:
    """`{"results": [...], "absent": [...], "notes": [...]}`: the results of an evaluation, with verdicts and facts."""
    results: list[dict[str, object]] = []
    for row, entry in _entries(board):
        plain = json.loads(report_files.results_json([_result(row, entry)]))["results"][0]
        claims = [verdict.to_json() for verdict in entry.verdicts]
        results.append({**plain, **_undefined(entry, None), "claims": claims, **_facts(row, entry)})
    content = {"results": results, "absent": [card.name for card in board.absent], "notes": list(board.notes)}
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def model_index(board: Board) -> bytes:
    """A model-index in the form of timm's cards, with measured metrics.

    `Verified` is true if there are claims and all are reproduced.

    It is deliberately no input for `zoo.cards.reader.read_cards`: what was measured here is not a publisher's claim.
    """
    measured: dict[str, list[dict[str, object]]] = {row.model: [] for row in board.rows}
    models = {row.model: row for row in reversed(board.rows)}  # the first row of each is used
    for row in board.rows:
        measured[row.model] += [_measured(row, entry) for entry in row.entries.values() if entry.summary.labelled]
    document = {
        "Type": "model-index",
        "Models": [{**_described(models[model]), "Results": results} for model, results in measured.items()],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120).encode()


def tables(board: Board) -> Iterator[tuple[str, Table]]:
    """For a terminal of 80 columns: for each set its title and a table, best first."""
    for shown_set in board.sets:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("model", overflow="fold", min_width=14)
        table.add_column("mode", overflow="fold", min_width=10)
        for heading in ("claimed", "measured, 95 %", "diff"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        table.add_column("n", justify="right", no_wrap=True)
        pairs = board.of(shown_set)
        alike = Counter((row.model, row.column.mode) for row, _ in pairs)
        for row, entry in pairs:
            mode = row.column.mode if alike[row.model, row.column.mode] == 1 else f"{row.settings}, {row.decoder}"
            table.add_row(*map(escape, [row.model, mode, *_line(entry)]))
        if not all(entry.column.complete for _, entry in pairs):
            table.caption = "* incomplete: not every shard is evaluated"
        yield shown_set.title, table


def top1_verdict(entry: BoardEntry) -> Verdict | None:
    """The verdict that a table shows."""
    return next((verdict for verdict in entry.verdicts if verdict.claim.metric == "top1"), None)


def _entries(board: Board) -> Iterator[tuple[Row, BoardEntry]]:
    return (pair for shown_set in board.sets for pair in board.of(shown_set))


def _result(row: Row, entry: BoardEntry) -> ModelResult:
    column = entry.column
    return model_result(
        row.card,
        column,
        entry.set.name,
        shards=len(column.dataset.shards),
        committed=len(column.committed),
        tally=entry.tally,
    )


def _verdict_columns(verdict: Verdict | None) -> dict[str, object]:
    if verdict is None:
        return {}
    return {
        "claimed_top1": verdict.claim.value,
        "difference": "" if verdict.points is None else f"{verdict.points:.3f}",
        "difference_images": verdict.images,
        "verdict": verdict.word,
        "reasons": "; ".join(verdict.reasons),
    }


def _undefined(entry: BoardEntry, blank: str | None) -> dict[str, str | None]:
    """`blank` for what a relabelled set leaves undefined, although the tally has a sum of it."""
    return {name: blank for name in ("nll", "brier") if getattr(entry.summary, name) is None}


def _facts(row: Row, entry: BoardEntry) -> dict[str, object]:
    dataset = entry.column.dataset
    speed = None if entry.speed is None else round(entry.speed, 2)
    values = row.macs, speed, row.licence, entry.column.name, f"{dataset.name}-{dataset.digest}"
    return dict(zip(_FACTS, values, strict=True))


def _described(row: Row) -> dict[str, object]:
    card = row.card
    preprocessing = card.preprocessing
    return {
        "Name": card.name,
        "Metadata": {
            "ID": card.architecture,
            "Parameters": card.params,
            "MACs": row.macs,
            "Image Size": preprocessing.size,
            "Crop Pct": preprocessing.crop_pct,
            "Interpolation": preprocessing.interpolation,
            **({"License": row.licence} if row.licence else {}),
        },
        **({"Code": card.code} if card.code else {}),
    }


def _measured(row: Row, entry: BoardEntry) -> dict[str, object]:
    summary = entry.summary
    metrics = {name: getattr(summary, metric) for metric, name in _METRICS.items()}
    words = [verdict.word for verdict in entry.verdicts]
    return {
        "Task": "Image Classification",
        "Dataset": entry.set.title,
        "Metrics": {name: f"{value:.3f}%" for name, value in metrics.items() if value is not None},
        "Images": summary.n,
        "Settings": f"{row.settings}, {row.decoder}",
        "Weights SHA-256": row.column.weights,
        "Verified": bool(words) and all(word == "reproduced" for word in words),
    }


def _line(entry: BoardEntry) -> list[str]:
    summary, verdict = entry.summary, top1_verdict(entry)
    return [
        f"{verdict.claim.value:.2f}" if verdict else "",
        _interval(summary),
        f"{verdict.points:+.2f}" if verdict and verdict.points is not None else "",
        verdict.word if verdict else "",
        f"{summary.n}" if entry.column.complete else f"{summary.n}*",
    ]


def _interval(summary: Summary) -> str:
    if summary.top1 is None or summary.top1_low is None or summary.top1_high is None:
        return ""
    return f"{summary.top1:.2f} {summary.top1_low:.1f}-{summary.top1_high:.1f}"
