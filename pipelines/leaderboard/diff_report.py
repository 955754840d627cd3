"""Differences -> the terminal's table, JSON, and the flips as Parquet."""

import json
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.cells.inventory import StoredColumn
from pipelines.evaluation.report_files import parquet_bytes
from pipelines.leaderboard.diff import FLIPS, RIGHT_WRONG, WRONG_RIGHT, WRONG_WRONG, Difference

_METRICS = ("top1", "top5", "nll", "ece", "brier", "errors")
_LEGEND = "lost: right in A, wrong in B; won: the reverse; moved: wrong in both, otherwise; p: McNemar's exact test"


def table(differences: Sequence[Difference]) -> Table:
    """The terminal's table; `diff` is top-1 of B less A with half of its paired 95 % interval."""
    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("model", overflow="fold", min_width=12)
    shown.add_column("A / B", overflow="fold")
    shown.add_column("dataset", overflow="fold")
    for heading in ("images", "top-1 A", "top-1 B", "diff ±95 %", "lost", "won", "moved", "p"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for entry in differences:
        shown.add_row(*map(escape, _line(entry)))
    return shown


def lines(differences: Sequence[Difference]) -> list[str]:
    """The meaning of the table's headings, what differs between the sides, and what could not be compared."""
    differing = Counter(
        f"{name}: {a} / {b}"
        for entry in differences
        for name, (a, b) in {**entry.pair.differs, **entry.environment}.items()
    )
    of = f" of {len(differences)} pairs)"
    settings = [line if len(differences) == 1 else f"{line}  ({pairs}{of}" for line, pairs in differing.items()]
    return [_LEGEND, *settings, *(line for entry in differences for line in _not_compared(entry))]


def sentence(entry: Difference) -> str:
    """The outcome in one sentence: by how much B is better than A, and whether that can be chance."""
    a, b = entry.pair.a, entry.pair.b
    return (
        f"{b.model} against {a.model} on {a.dataset.name}: {entry.points:+.2f} ±{entry.half_interval:.2f} points of "
        f"top-1 over {sum(entry.images.values()):,} images, p = {entry.p_value:.2g} (McNemar's exact test)"
    )


def diff_json(differences: Sequence[Difference]) -> bytes:
    """`{"pairs": [...]}`: both sides, what differs between them, counts, the test and the metrics that changed."""
    content = {"pairs": [_pair_json(entry) for entry in differences]}
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def flips_parquet(differences: Sequence[Difference]) -> bytes:
    """`diff.FLIPS` of all pairs, in their order."""
    return parquet_bytes(pa.concat_tables([FLIPS.empty_table(), *(entry.flips for entry in differences)]))


def _line(entry: Difference) -> list[str]:
    a, b = entry.pair.a, entry.pair.b
    return [
        a.model if a.model == b.model else f"{a.model} / {b.model}",
        _modes(a, b),
        a.dataset.name,
        str(sum(entry.images.values())),
        *("" if scored.top1 is None else f"{scored.top1:.2f}" for scored in (entry.a, entry.b)),
        f"{entry.points:+.2f} ±{entry.half_interval:.2f}",
        *(str(entry.images[kind]) for kind in (RIGHT_WRONG, WRONG_RIGHT, WRONG_WRONG)),
        f"{entry.p_value:.2g}",
    ]


def _modes(a: StoredColumn, b: StoredColumn) -> str:
    """How both were run, in as few words as distinguish them."""
    if a.mode != b.mode:
        return f"{a.mode} / {b.mode}"
    return a.mode if a.settings == b.settings else f"{a.settings} / {b.settings}"


def _not_compared(entry: Difference) -> list[str]:
    a, b = entry.pair.a, entry.pair.b
    name, most = f"{a.model} on {a.dataset.name}", max(len(a.committed), len(b.committed))
    found = [f"{name}: compared over {entry.shards} of {most} shards"] if entry.shards < most else []
    if any(entry.unpaired):
        found.append(f"{name}: {entry.unpaired[0]} images are in A alone, {entry.unpaired[1]} in B alone")
    return found


def _pair_json(entry: Difference) -> dict[str, object]:
    scores = {name: (getattr(entry.a, name), getattr(entry.b, name)) for name in _METRICS}
    sides = {
        side: {
            "store": column.store,
            "column": column.name,
            "model": column.model,
            "dataset": f"{column.dataset.name}-{column.dataset.digest}",
            "committed": len(column.committed),
        }
        for side, column in (("a", entry.pair.a), ("b", entry.pair.b))
    }
    return {
        "dataset": entry.pair.a.dataset.name,
        **sides,
        "settings": {name: list(values) for name, values in entry.pair.differs.items()},
        "environment": {name: list(values) for name, values in entry.environment.items()},
        "shards": entry.shards,
        "images": sum(entry.images.values()),
        **{kind.replace(" ", "_"): count for kind, count in entry.images.items()},
        "unpaired": list(entry.unpaired),
        "points": entry.points,
        "low": entry.points - entry.half_interval,
        "high": entry.points + entry.half_interval,
        "p_value": entry.p_value,
        "metrics": {name: list(values) for name, values in scores.items() if values[0] != values[1]},
    }
