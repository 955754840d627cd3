"""A board -> what a terminal or a program reads: tables, CSV in timm's columns, JSON, a model-index.

Owns columns, formats and order. Refuses everything that differs between two boards of the same cells (no time or host):
the same store gives the same bytes, but for the images a second, which MLflow remembers.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

import yaml
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.evaluation import report_files
from pipelines.evaluation.metrics import Summary
from pipelines.evaluation.report_files import CSV_COLUMNS, ModelResult
from pipelines.leaderboard.board import Board, BoardEntry, Row
from pipelines.leaderboard.sets import Judged

_MORE = ("claimed_top1", "difference", "difference_images", "verdict", "reasons")
_FACTS = ("macs", "images_per_second", "licence", "column", "data")
COLUMNS = (*CSV_COLUMNS, *_MORE, *_FACTS)
"""Those of an evaluation's results, timm's nine first; then the claim of top-1 and the model's facts."""
_METRICS = {"top1": "Top 1 Accuracy", "top5": "Top 5 Accuracy"}


def csv_bytes(board: Board) -> bytes:
    """COLUMNS, one line a row and set, best first in each set; nothing where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row, score in _every(board):
        plain = next(csv.DictReader(io.StringIO(report_files.results_csv([_result(row, score)]).decode())))
        writer.writerow({**plain, **_undefined(score, ""), **_claim_columns(top1_claim(score)), **_facts(row, score)})
    return text.getvalue().encode()


def json_bytes(board: Board) -> bytes:
    """`{"results": [...], "absent": [...], "notes": [...]}`: the results of an evaluation, with claims and facts."""
    results = []
    for row, score in _every(board):
        plain = json.loads(report_files.results_json([_result(row, score)]))["results"][0]
        results.append(
            {
                **plain,
                **_undefined(score, None),
                "claims": [asdict(claim) for claim in score.claims],
                **_facts(row, score),
            }
        )
    content = {"results": results, "absent": [card.name for card in board.absent], "notes": list(board.notes)}
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def model_index(board: Board) -> bytes:
    """A model-index as timm's cards are, with measured metrics; `Verified` says whether all claims hold there.

    `zoo.read_cards` refuses it, on purpose: what was measured here is no claim of a publisher's.
    """
    models: dict[str, dict] = {}
    for row in board.rows:
        entry = models.setdefault(row.model, _entry(row))
        entry["Results"] += [_measured(row, score) for score in row.scores.values() if score.summary.labelled]
    document = {"Type": "model-index", "Models": list(models.values())}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120).encode()


def tables(board: Board) -> Iterator[tuple[str, Table]]:
    """For a terminal of 80 columns: the title of each set and its rows, best first."""
    for kind in board.sets:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("model", overflow="fold", min_width=14)
        table.add_column("mode", overflow="fold", min_width=10)
        for heading, side in (("claimed", "right"), ("measured, 95 %", "right"), ("diff", "right")):
            table.add_column(heading, justify=side, no_wrap=True)  # pyright: ignore[reportArgumentType]
        table.add_column("verdict", no_wrap=True)
        table.add_column("n", justify="right", no_wrap=True)
        pairs = list(board.of(kind))
        alike = Counter((row.model, row.column.mode) for row, _ in pairs)
        for row, score in pairs:
            mode = row.column.mode if alike[row.model, row.column.mode] == 1 else f"{row.settings}, {row.decoder}"
            table.add_row(*map(escape, [row.model, mode, *_line(score)]))
        if not all(score.column.complete for _, score in pairs):
            table.caption = "* incomplete: not every shard is evaluated"
        yield kind.title, table


def top1_claim(score: BoardEntry) -> Judged | None:
    """What became of the claim that a table shows."""
    return next((claim for claim in score.claims if claim.metric == "top1"), None)


def _every(board: Board) -> Iterator[tuple[Row, BoardEntry]]:
    return (pair for kind in board.sets for pair in board.of(kind))


def _result(row: Row, score: BoardEntry) -> ModelResult:
    column, seen = score.column, row.card.preprocessing
    return ModelResult(
        model=row.model,
        dataset=score.set.name,
        param_count=row.card.params,
        img_size=seen.size,
        crop_pct=seen.crop_pct,
        interpolation=seen.interpolation,
        weights=column.weights,
        settings=column.settings,
        decoder=column.decoder,
        plan=column.name.rpartition("-")[2],
        shards=len(column.dataset.shards),
        committed=len(column.committed),
        tally=score.tally,
    )


def _claim_columns(claim: Judged | None) -> dict[str, object]:
    if claim is None:
        return {}
    return {
        "claimed_top1": claim.claimed,
        "difference": "" if claim.points is None else f"{claim.points:.3f}",
        "difference_images": claim.images,
        "verdict": claim.verdict,
        "reasons": "; ".join(claim.reasons),
    }


def _undefined(score: BoardEntry, nothing: str | None) -> dict[str, str | None]:
    """What a view of other labels leaves undefined, although the tally has a sum of it."""
    return {name: nothing for name in ("nll", "brier") if getattr(score.summary, name) is None}


def _facts(row: Row, score: BoardEntry) -> dict[str, object]:
    dataset = score.column.dataset
    speed = None if score.speed is None else round(score.speed, 2)
    values = row.macs, speed, row.licence, score.column.name, f"{dataset.name}-{dataset.digest}"
    return dict(zip(_FACTS, values, strict=True))


def _entry(row: Row) -> dict:
    card = row.card
    seen = card.preprocessing
    return {
        "Name": card.name,
        "Metadata": {
            "ID": card.architecture,
            "Parameters": card.params,
            "MACs": row.macs,
            "Image Size": seen.size,
            "Crop Pct": seen.crop_pct,
            "Interpolation": seen.interpolation,
            **({"License": row.licence} if row.licence else {}),
        },
        **({"Code": card.code} if card.code else {}),
        "Results": [],
    }


def _measured(row: Row, score: BoardEntry) -> dict:
    scored = score.summary
    found = {name: getattr(scored, metric) for metric, name in _METRICS.items()}
    verdicts = [claim.verdict for claim in score.claims]
    return {
        "Task": "Image Classification",
        "Dataset": score.set.title,
        "Metrics": {name: f"{value:.3f}%" for name, value in found.items() if value is not None},
        "Images": scored.n,
        "Settings": f"{row.settings}, {row.decoder}",
        "Weights SHA-256": row.column.weights,
        "Verified": bool(verdicts) and all(verdict == "reproduced" for verdict in verdicts),
    }


def _line(score: BoardEntry) -> list[str]:
    scored, claim = score.summary, top1_claim(score)
    return [
        f"{claim.claimed:.2f}" if claim else "",
        _interval(scored),
        f"{claim.points:+.2f}" if claim and claim.points is not None else "",
        (claim.verdict or "") if claim else "",
        f"{scored.n}" if score.column.complete else f"{scored.n}*",
    ]


def _interval(scored: Summary) -> str:
    if scored.top1 is None or scored.top1_low is None or scored.top1_high is None:
        return ""
    return f"{scored.top1:.2f} {scored.top1_low:.1f}-{scored.top1_high:.1f}"
