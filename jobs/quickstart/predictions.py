"""The predictions of a model, from its committed cells: each image with its five most probable classes."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from rich.table import Table
from rich.text import Text

from jobs.console import cli
from jobs.console.tables import plain_table
from pipelines.cells.cell import load_cells
from pipelines.cells.column import Column
from pipelines.records import Dataset
from zoo import imagenet

_SHOWN = 20
"""Images in the table; a longer one would hide what is printed after it."""


def print_predictions(store: str, dataset: Dataset, column: Column) -> None:
    """Print the first predictions of `column` on `dataset`, and how many more there are."""
    rows = (row for _, cell in load_cells(store, dataset, column) for row in cell.to_pylist())
    cli.stdout.print()
    cli.stdout.print(_predictions_table(islice(rows, _SHOWN)))
    cli.stdout.print()
    if (more := sum(shard.rows or 0 for shard in dataset.shards) - _SHOWN) > 0:
        cli.stdout.print(f"and {more:,} more images, whose predictions are in {store}/cells\n")


def _predictions_table(rows: Iterable[dict[str, Any]]) -> Table:
    names = imagenet.class_names()
    table = plain_table(("image", "label", "top five"), gap=2)
    for row in rows:
        label = row["label"]
        table.add_row(Text(row["key"]), "" if label is None else names[label], _top_five(row, names))
    return table


def _top_five(row: dict[str, Any], names: Sequence[str]) -> Text:
    """The five most probable classes, the label's own in bold; the error if there is one."""
    if row["error"]:
        return Text(row["error"])
    top = zip(row["classes"][:5], row["probs"][:5], strict=True)
    parts = [
        (f"{names[index]} {probability:.1%}", "bold" if index == row["label"] else "") for index, probability in top
    ]
    return Text(", ").join(Text(part, style=style) for part, style in parts)
