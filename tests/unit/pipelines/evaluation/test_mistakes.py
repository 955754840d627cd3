"""Covers mistakes: the same are found in whatever order cells are merged."""

import itertools
from functools import reduce

import pyarrow as pa

from pipelines.evaluation import mistakes
from pipelines.records import Shard, cell_schema
from tests.support.fake_stores import rows

SHARDS = [Shard(name=f"{i}", uri=f"/{i}", size=1, etag="") for i in range(3)]


def cell(*entries: tuple[int | None, int, float]) -> pa.Table:
    """Rows of (label, predicted class, its probability); a label of None has an error."""
    fine = [label is not None for label, _, _ in entries]
    return pa.table(
        {
            "index": range(len(entries)),
            "key": [f"k{i}" for i in range(len(entries))],
            "label": [label for label, _, _ in entries],
            "classes": [[p, 8, 9] if ok else None for ok, (_, p, _) in zip(fine, entries, strict=True)],
            "probs": [[q, 0.01, 0.0] if ok else None for ok, (_, _, q) in zip(fine, entries, strict=True)],
            "label_prob": [0.01 if ok else None for ok in fine],
            "sq_prob": [0.5 if ok else None for ok in fine],
            "logsumexp": [0.0 if ok else None for ok in fine],
            "digest": range(len(entries)),
            "error": [None if ok else "empty file: nothing in it" for ok in fine],
            "offset": [None] * len(entries),
        },
        schema=cell_schema(3),
    )


def test_confused_pairs_worst_mistakes_and_errors_are_those_of_the_rows() -> None:
    found = mistakes.mistakes_of(
        SHARDS[0], cell((0, 0, 0.9), (1, 2, 0.5), (1, 2, 0.7), (None, 0, 0), (3, 1, 0.6), (12, 1, 0.9)), 10
    )
    assert found.most_confused() == [(1, 2, 2), (3, 1, 1)]
    assert [(m.index, m.label, m.predicted) for m in found.worst] == [(2, 1, 2), (4, 3, 1), (1, 1, 2)]
    assert found.worst[0].key == "k2" and round(found.worst[0].probability, 3) == 0.7
    assert [(row.index, row.reason) for row in found.errors] == [(3, "empty file"), (5, "label out of range")]


def test_folding_in_any_order_finds_the_same() -> None:
    parts = [
        mistakes.mistakes_of(shard, rows(200, 0.3, seed=i, errors=range(i, 60, 9)), 1000)
        for i, shard in enumerate(SHARDS)
    ]
    folded = [reduce(mistakes.merge, order) for order in itertools.permutations(parts)]
    assert all(other == folded[0] for other in folded)
    assert len(folded[0].worst) == mistakes.KEPT and len(folded[0].errors) <= mistakes.KEPT
    assert sum(folded[0].confused.values()) > 300


def test_of_equally_confident_mistakes_the_first_in_place_is_kept() -> None:
    parts = [mistakes.mistakes_of(shard, cell(*[(0, 1, 0.5)] * 40), 10) for shard in SHARDS]
    kept = reduce(mistakes.merge, reversed(parts)).worst
    assert [(m.shard, m.index) for m in kept] == [("0", i) for i in range(40)] + [("1", i) for i in range(10)]


def test_a_cell_of_errors_alone_has_no_mistakes() -> None:
    found = mistakes.mistakes_of(SHARDS[0], cell((None, 0, 0), (None, 0, 0)), 10)
    assert (found.most_confused(), found.worst, len(found.errors)) == ([], (), 2)
