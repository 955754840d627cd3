"""A board -> leaderboard.html: one file that needs nothing else, neither a server nor the network.

Owns what the page is told, and that nothing in it can act: names, keys and errors are anybody's input, so they travel
as JSON in which no tag can end, the scripts set text only as text, and the page's policy runs no script but ours. The
charts are our own 150 lines of SVG: plotly.js is 4.7 MB in every leaderboard and knows neither dark nor our fonts.
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
"""Decimals of what is drawn; the exports hold the whole numbers."""


def render(board: Board, remarks: Sequence[str] = ()) -> bytes:
    """The page, a pure function of the board and of what else is to be said below it."""
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
    """Nothing is fetched, and nothing runs but what stands here, known by its digest."""
    styles, ours = _source(style), " ".join(_source(script) for script in scripts)
    return f"default-src 'none'; style-src {styles}; script-src {ours}; base-uri 'none'; form-action 'none'"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(board: Board, remarks: Sequence[str]) -> dict:
    sizes = {row.card.num_classes for row in board.rows}
    known = imagenet.class_names()
    most = max(board.sets, key=lambda kind: sum(kind.name in row.scores for row in board.rows), default=None)
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


def _row(board: Board, row: Row) -> dict:
    card = row.card
    seen = card.preprocessing
    return {
        "model": row.model,
        "mode": row.column.mode,
        "settings": str(row.settings),
        "decoder": row.decoder,
        "weights": row.column.weights[:8],
        "published": row.is_as_published,
        "classes": card.num_classes,
        "input": f"{seen.size} px, crop {seen.crop_pct:g}, {seen.interpolation}",
        "params": card.params,
        "macs": row.macs,
        "licence": row.licence,
        "paper": card.paper,
        "scores": [_score(row.scores[kind.name]) if kind.name in row.scores else None for kind in board.sets],
    }


def _score(score: BoardEntry) -> dict:
    scored = score.summary
    return {
        "n": scored.n,
        "errors": scored.errors,
        "reasons": scored.error_reasons,
        **{name: _rounded(getattr(scored, name)) for name in ("top1", "top5", "ece", "nll", "brier")},
        "low": _rounded(scored.top1_low),
        "high": _rounded(scored.top1_high),
        "speed": score.speed,
        "complete": score.column.complete,
        "committed": len(score.column.committed),
        "shards": len(score.column.dataset.shards),
        "bins": [[b.rows, _rounded(b.accuracy), _rounded(b.mean_confidence)] for b in score.tally.bins],
        "claims": [asdict(claim) for claim in score.claims],
        "detail": _detail(score),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _detail(score: BoardEntry) -> str:
    """What only a model's own view shows: compressed, or a hundred models would make a page of 20 MB."""
    classes = score.tally.classes
    content = {
        "n": classes.n.tolist(),
        "top1": classes.top1.tolist(),
        "top5": classes.top5.tolist(),
        "confused": score.mistakes.most_confused(),
        "worst": [asdict(mistake) for mistake in score.mistakes.worst],
        "errors": [asdict(row) for row in score.mistakes.errors],
    }
    packed = gzip.compress(json.dumps(content, separators=(",", ":"), allow_nan=False).encode(), 6, mtime=0)
    return base64.b64encode(packed).decode()
