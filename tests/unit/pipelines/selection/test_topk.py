"""Covers topk: the K best of each class against a sort of everything, however the candidates come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.selection import topk
from pipelines.selection.topk import Candidates, TopK

SCORES = st.sampled_from([0.0, -0.0, 0.25, 0.5, 0.75, 1.0, -3.5, 1e-30])
ROWS = st.lists(
    st.tuples(st.integers(0, 4), SCORES, st.integers(0, 3), st.integers(0, 3), st.integers(0, 50)),
    unique_by=lambda row: (row[0], row[3], row[4]),
)


def candidates(rows: list[tuple]) -> Candidates:
    label, score, tie, shard, index = zip(*rows, strict=True) if rows else ((),) * 5
    low_ties = np.array(tie, np.uint64) * np.uint64(0x4000_0000)  # some differ only below the upper half
    return Candidates(
        np.array(label, np.int16),
        np.array(score, np.float32),
        low_ties,
        np.array(shard, np.int32),
        np.array(index, np.int32),
        np.array(index, np.int32) + 100,
    )


def as_rows(chosen: Candidates) -> list[tuple]:
    return list(zip(*(getattr(chosen, name).tolist() for name in Candidates.__slots__), strict=True))


def sorted_out(rows: list[tuple], k: int) -> list[tuple]:
    """By brute force."""
    order = sorted(as_rows(candidates(rows)), key=lambda r: (r[0], -r[1], r[2], r[3], r[4]))
    return [row for i, row in enumerate(order) if sum(other[0] == row[0] for other in order[:i]) < k]


@given(rows=ROWS, k=st.integers(1, 6), data=st.data())
def test_any_order_and_partition_gives_what_a_sort_of_everything_gives(rows, k, data) -> None:
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    fold = TopK(classes=5, k=k)
    fold._room = data.draw(st.integers(0, 10))
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        fold.add(candidates(shuffled[start:stop]))
    assert as_rows(fold.best()) == sorted_out(rows, k)


@given(rows=ROWS, k=st.integers(1, 6), cut=st.integers(0, 60))
def test_merging_the_best_of_parts_gives_the_best_of_all(rows, k, cut) -> None:
    whole = TopK(classes=5, k=k)
    for part in (rows[:cut], rows[cut:]):
        fold = TopK(classes=5, k=k)
        fold.add(candidates(part))
        whole.add(fold.best())
    assert as_rows(whole.best()) == sorted_out(rows, k)


@pytest.mark.parametrize("k", [1, 100])
def test_a_fold_keeps_no_more_than_it_may_need(k) -> None:
    rng, fold, most = np.random.default_rng(0), TopK(classes=10, k=k), 0
    fold._room = 10 * k
    for shard in range(200):
        n = 1000
        label, score = rng.integers(0, 10, n).astype(np.int16), rng.random(n, np.float32)
        index = np.arange(n, dtype=np.int32)
        fold.add(
            Candidates(label, score, topk.tie_of(f"{shard:08x}", index), np.full(n, shard, np.int32), index, index)
        )
        most = max(most, sum(map(len, fold._kept)))
    assert most <= 2 * 10 * k
    assert (np.bincount(fold.best().label) == k).all()


def test_ties_of_places_are_spread_and_told_apart() -> None:
    index = np.arange(100_000, dtype=np.int32)
    ties = np.concatenate([topk.tie_of(digest, index) for digest in ("00000000", "00000001", "ffffffff")])
    assert len(np.unique(ties)) == len(ties)
    assert np.bincount((ties >> np.uint64(61)).astype(np.int64), minlength=8).min() > 0.9 * len(ties) / 8


@given(rows=ROWS, k=st.integers(1, 6), data=st.data())
def test_of_equal_images_the_best_counts_and_of_equals_the_first_by_place(rows, k, data) -> None:
    first = {}
    for row in sorted(rows, key=lambda r: (-r[1], r[3], r[4])):
        first.setdefault((row[0], row[2]), row)
    fold = TopK(classes=5, k=k, distinct=True)
    fold._room = data.draw(st.integers(0, 10))
    for row in data.draw(st.permutations(rows)):
        fold.add(candidates([row]))
    assert as_rows(fold.best()) == sorted_out(list(first.values()), k)
