"""Compare two models of a store image by image: which predictions flip, and whether the difference may be chance.

    pip install duckdb
    python examples/compare_two_models.py quickstart/store efficientnet_lite0 mine

Both models must have been evaluated on the same shards. A model is given by its name, or by the folder of its cells
(MODEL-WEIGHTS8-PLAN8) where the store has it with several settings. The test is McNemar's exact one: only images on
which exactly one of the models is right count, and under the null hypothesis either is right with probability 1/2.
`jobs.leaderboard --diff` does the same with intervals, and tells which settings differ.
"""

import sys
from pathlib import Path

import duckdb
from scipy.stats import binomtest

PAIRS = """
    WITH judged AS (
        SELECT *, parse_path(filename) AS path, coalesce(classes[1] = label, false) AS is_right
        FROM read_parquet(?, filename = true) WHERE label IS NOT NULL
    )
    SELECT a.key, a.is_right, b.is_right
    FROM judged a JOIN judged b ON a.path[-3] = b.path[-3] AND a.path[-1] = b.path[-1] AND a."index" = b."index"
    WHERE a.path[-2] = ? AND b.path[-2] = ?
    ORDER BY a.path, a."index"
"""


def folder_of(store: str, model: str) -> str:
    """The name of the one folder of cells that `model` has in `store`."""
    names = {path.name for path in Path(store, "cells").glob("*/*")}
    found = [name for name in names if model in {name, name.rsplit("-", 2)[0]}]
    if len(found) != 1:
        raise SystemExit(f"{model} has {len(found)} folders of cells; expected one of {', '.join(sorted(names))}")
    return found[0]


def main(store: str, a: str, b: str) -> None:
    """Print the flips, the two accuracies and the p-value."""
    names = [folder_of(store, a), folder_of(store, b)]
    pairs = duckdb.execute(PAIRS, [f"{store}/cells/**/*.parquet", *names]).fetchall()
    lost = [key for key, a_right, b_right in pairs if a_right and not b_right]
    won = [key for key, a_right, b_right in pairs if b_right and not a_right]
    p_value = binomtest(len(lost), len(lost) + len(won)).pvalue if lost or won else 1.0
    print(f"only {a} is right: {', '.join(lost) or 'nowhere'}")
    print(f"only {b} is right: {', '.join(won) or 'nowhere'}")
    print(f"top-1 {sum(row[1] for row in pairs)} and {sum(row[2] for row in pairs)} of {len(pairs)}, p = {p_value:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
