"""Covers candidates: those of cells, folded, against a plain sort of every (class, score) of every row."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.selection import candidates, topk
from pipelines.selection.candidates import Rule
from pipelines.selection.files import by_rank
from pipelines.selection.topk import TopK
from tests.support import fake_pools
from tests.support.fake_pools import CLASSES, TOP

DATASET = fake_pools.pool(5)


def chosen(tables: list[pa.Table], rule: Rule, order: list[int]) -> list[tuple]:
    """(label, rank, score, shard, index, truth), the cells taken in `order`."""
    fold = TopK(CLASSES, rule.k, distinct=rule.dedup)
    fold._room = 8
    for position in order:
        shard = DATASET.shards[position]
        if rule.takes(shard):
            fold.add(candidates.of_cell(tables[position], shard, position, rule, fold.least)[0])
    return [tuple(row.values()) for row in by_rank(fold.best()).to_pylist()]


def sorted_out(tables: list[pa.Table], rule: Rule) -> list[tuple]:
    """The same by brute force."""
    every = [
        candidate
        for position, table in enumerate(tables)
        if rule.takes(DATASET.shards[position])
        for row in table.to_pylist()
        if row["error"] is None and row["key"] not in rule.keys and row["digest"] not in rule.images
        for candidate in of_row(row, position, rule)
    ]
    every.sort(key=lambda c: (c["label"], -c["score"], *c["place"]))
    found, seen, counts = [], set(), [0] * CLASSES
    if rule.dedup:
        every.sort(key=lambda c: (c["label"], -c["score"], c["shard"], c["index"]))
        every = [c for c in every if (c["label"], c["digest"]) not in seen and not seen.add((c["label"], c["digest"]))]
        every.sort(key=lambda c: (c["label"], -c["score"], c["digest"]))
    for c in every:
        counts[c["label"]] += 1
        if counts[c["label"]] <= rule.k:
            found.append((c["label"], counts[c["label"]], c["score"], c["shard"], c["index"], c["truth"]))
    return found


def of_row(row: dict, position: int, rule: Rule) -> list[dict]:
    found = []
    tie = int(topk.tie_of(DATASET.shards[position].digest, np.array([row["index"]], np.int32))[0])
    for label, prob in zip(row["classes"], row["probs"], strict=True):
        score = np.float32(np.log(np.float32(prob)) + np.float32(row["logsumexp"])) if rule.score == "logit" else prob
        if prob > 0 and (rule.floor is None or score >= np.float32(rule.floor)):
            place = (tie, position, row["index"])
            own = {"label": label, "score": float(score), "place": place, "digest": row["digest"]}
            found.append(own | {"shard": position, "index": row["index"], "truth": row["label"]})
    return found


RULES = st.builds(
    Rule,
    k=st.integers(1, 30),
    score=st.sampled_from(["prob", "logit"]),
    floor=st.sampled_from([None, 0.5, 0.25]),
    dedup=st.booleans(),
    keys=st.sampled_from([frozenset(), frozenset({"k1", "k3"})]),
    shards=st.sampled_from([(), ("00001",), ("0000[03]", "x*")]),
    images=st.sampled_from([frozenset(), frozenset({1, 2})]),
)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(0, 12), top=st.sampled_from([1, TOP, CLASSES]), rule=RULES)
def test_any_rule_on_any_order_of_cells_gives_what_a_sort_of_everything_gives(seed, rows, top, rule) -> None:
    rng = np.random.default_rng(seed)
    tables = [fake_pools.random_cell(rng, rows, top, images=rng.choice([6, 10**9])) for _ in DATASET.shards]
    order = rng.permutation(len(tables)).tolist()
    assert chosen(tables, rule, order) == sorted_out(tables, rule)


def test_classes_of_no_probability_are_never_chosen() -> None:
    table = fake_pools.random_cell(np.random.default_rng(0), 4)
    zeros = pa.array([[0.5, 0.0, 0.0]] * 4, table.schema.field("probs").type)
    table = table.set_column(4, "probs", zeros)
    for score in ("prob", "logit"):
        assert len(chosen([table] * 5, Rule(k=100, score=score), [0, 1])) == 2 * table["error"].null_count


@pytest.mark.parametrize("changed", [{"k": 4}, {"floor": 0.1}, {"keys": frozenset("a")}, {"images": frozenset({3})}])
def test_another_rule_is_another_selection(changed) -> None:
    assert replace(Rule(k=3), **changed).digest != Rule(k=3).digest


def test_a_k_that_selects_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="--k 0: expected a number of images per class"):
        Rule(k=0)
