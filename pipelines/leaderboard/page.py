"""The leaderboard -> leaderboard.html: one file that needs neither a server nor the network.

Names, keys and errors are untrusted input. They travel as JSON in which no tag can be closed, the scripts insert them
as text only, and the page's content security policy runs no other script than its own. The charts are 150 lines of SVG:
plotly.js would add 4.7 MB to every leaderboard and follows neither the dark mode nor the page's fonts.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from pipelines.leaderboard.board import Board, BoardEntry, Row
from zoo import imagenet

_SCRIPTS = ("page_table.js", "page_charts.js", "page_model.js", "page.js")
_TITLE = "Menagerie leaderboard"
_DIGITS = 6
"""Decimals of the numbers in the page; the exports hold them in full."""


def render(board: Board, remarks: Sequence[str] = ()) -> bytes:
    """The page, a pure function of the leaderboard and of `remarks`, which stand below it."""
    style, scripts = _file("page.css"), [_file(name) for name in _SCRIPTS]
    page = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        _file("page.html.j2")
    )
    text = page.render(
        title=_TITLE,
        policy=_policy(style, scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=htmlsafe_json_dumps(_data(board, remarks), separators=(",", ":"), allow_nan=False),
    )
    return text.encode()


@cache
def _file(name: str) -> str:
    return resources.files("pipelines.leaderboard").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, scripts: list[str]) -> str:
    """The page fetches nothing, and runs only the scripts with these digests."""
    styles, own = _digest_source(style), " ".join(_digest_source(script) for script in scripts)
    return f"default-src 'none'; style-src {styles}; script-src {own}; base-uri 'none'; form-action 'none'"


def _digest_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(board: Board, remarks: Sequence[str]) -> dict[str, object]:
    sizes = {row.card.num_classes for row in board.rows}
    known = imagenet.class_names()
    most = max(board.sets, key=lambda each: sum(each.name in row.entries for row in board.rows), default=None)
    return {
        "title": _TITLE,
        "sets": [{"name": each.name, "title": each.title, "short": each.short} for each in board.sets],
        "main": board.sets.index(most) if most else 0,
        "classes": {len(known): known} if len(known) in sizes else {},
        "rows": [_row(board, row) for row in board.rows],
        "notes": [*remarks, *_notes(board)],
    }


def _notes(board: Board) -> list[str]:
    absent = ", ".join(card.name for card in board.absent)
    return [*([f"Not evaluated: {absent}."] if absent else []), *board.notes]


def _row(board: Board, row: Row) -> dict[str, object]:
    card = row.card
    preprocessing = card.preprocessing
    return {
        "model": row.model,
        "mode": row.column.mode,
        "settings": str(row.settings),
        "decoder": row.decoder,
        "weights": row.column.weights[:8],
        "published": row.is_as_published,
        "classes": card.num_classes,
        "input": f"{preprocessing.size} px, crop {preprocessing.crop_pct:g}, {preprocessing.interpolation}",
        "params": card.params,
        "macs": row.macs,
        "licence": row.licence,
        "paper": card.paper,
        "scores": [_entry(row.entries[each.name]) if each.name in row.entries else None for each in board.sets],
    }


def _entry(entry: BoardEntry) -> dict[str, object]:
    summary = entry.summary
    return {
        "n": summary.n,
        "errors": summary.errors,
        "reasons": summary.error_reasons,
        **{name: _rounded(getattr(summary, name)) for name in ("top1", "top5", "ece", "nll", "brier")},
        "low": _rounded(summary.top1_low),
        "high": _rounded(summary.top1_high),
        "speed": entry.speed,
        "complete": entry.column.complete,
        "committed": len(entry.column.committed),
        "shards": len(entry.column.dataset.shards),
        "bins": [[b.rows, _rounded(b.accuracy), _rounded(b.mean_confidence)] for b in entry.tally.bins],
        "claims": [verdict.to_json() for verdict in entry.verdicts],
        "detail": _detail(entry),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _detail(entry: BoardEntry) -> str:
    """What only the view of one model shows; compressed, or the page of a hundred models would have 20 MB."""
    classes = entry.tally.classes
    content = {
        "n": classes.n.tolist(),
        "top1": classes.top1.tolist(),
        "top5": classes.top5.tolist(),
        "confused": entry.mistakes.most_confused(),
        "worst": [asdict(mistake) for mistake in entry.mistakes.worst],
        "errors": [asdict(row) for row in entry.mistakes.errors],
    }
    packed = gzip.compress(json.dumps(content, separators=(",", ":"), allow_nan=False).encode(), 6, mtime=0)
    return base64.b64encode(packed).decode()
