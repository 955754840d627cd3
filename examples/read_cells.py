"""Read the cells of a store with SQL: top-1 accuracy by class, without any code of the project.

    pip install duckdb
    python examples/read_cells.py quickstart/store

A cell is a Parquet file, cells/DATASET/MODEL-WEIGHTS8-PLAN8/SHARD-DIGEST8.parquet, with one row per image: `label`, the
most probable `classes` with their `probs`, or an `error`. As in the reports, an image with an error counts as wrong.
"""

import sys
from glob import glob

import duckdb

TOP1_BY_CLASS = """
    SELECT parse_path(filename)[-2] AS model, label,
        avg(coalesce(classes[1] = label, false)::INT) AS top1, count(*) AS images
    FROM read_parquet(?, filename = true)
    WHERE label IS NOT NULL
    GROUP BY model, label
    ORDER BY model, top1, label
"""


def main(store: str) -> None:
    """Print one line per model and class, the worst classes first."""
    cells = f"{store}/cells/**/*.parquet"
    if not glob(cells, recursive=True):
        raise SystemExit(f"{cells}: no cells; jobs.evaluate fills a store")
    for model, label, top1, images in duckdb.execute(TOP1_BY_CLASS, [cells]).fetchall():
        print(f"{model}  class {label:>3}  top-1 {100 * top1:6.2f} %  of {images} images")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} STORE")
    main(sys.argv[1])
