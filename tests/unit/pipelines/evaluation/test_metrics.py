"""Covers metrics: order never shows, and every number agrees with a plain reference computed row by row."""

import math
import random
from collections import Counter
from dataclasses import asdict
from functools import reduce
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.metrics import LABEL_RANGE, MISSING_LABEL, Tally, merge, summary, tally, wilson
from pipelines.records import cell_schema

CLASSES = 7
LABELS = st.integers(0, CLASSES - 1)
ANY_LABEL = st.none() | LABELS
ANY_ERROR = st.sampled_from([None, None, None, "broken image: OSError: cut: short", "empty file"])


@st.composite
def cells(draw, labels=ANY_LABEL, errors=ANY_ERROR):
    """A cell of up to 30 rows; small whole numbers as weights make ties, zeros and certainties common."""
    top = draw(st.integers(1, CLASSES))
    weights = st.lists(st.integers(0, 4), min_size=CLASSES, max_size=CLASSES).filter(any)
    rows = draw(st.lists(st.tuples(labels, errors, weights), max_size=30))
    return cell([predicted(*row, top) for row in rows], top)


def predicted(label, error, weights, top=5):
    """A row of a cell, predicted with probabilities proportional to `weights`."""
    row = {"key": "some key", "label": label, "error": error}
    if error is not None:
        return row
    probs = (np.array(weights) / sum(weights)).astype(np.float32)
    order = np.argsort(-probs, kind="stable")[:top]
    label_prob = None if label is None else probs[label]
    return row | {"classes": order, "probs": probs[order], "label_prob": label_prob, "sq_prob": np.square(probs).sum()}


def cell(rows, top=5):
    return pa.Table.from_pylist([row | {"index": i} for i, row in enumerate(rows)], schema=cell_schema(top))


def reference(table):
    """Counts, and means in float64, of a cell, one row after the other."""
    counts, reasons, terms = Counter(), Counter(), []
    per_class = np.zeros((4, CLASSES), int)
    for row in table.to_pylist():
        label = row["label"]
        if label is not None:
            per_class[0, label] += 1
        if row["error"] is not None or label is None:
            reasons[(row["error"] or MISSING_LABEL).split(": ")[0]] += 1
            if label is not None:
                per_class[1, label] += 1
            continue
        counts["valid"] += 1
        per_class[2, label] += row["classes"][0] == label
        per_class[3, label] += label in row["classes"][:5]
        nll = -math.log(max(row["label_prob"], float(np.finfo(np.float32).tiny)))
        brier = row["sq_prob"] - 2 * row["label_prob"] + 1
        terms.append((nll, brier, row["probs"][0], row["classes"][0] == label))
    return counts, reasons, per_class, np.array(terms, dtype=np.float64).reshape(-1, 4)


def reference_ece(confidence, correct):
    """Guo et al. 2017, equation 3, as they write it."""
    error = 0.0
    for low, high in pairwise(np.linspace(0, 1, 16)):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += abs(correct[inside].mean() - confidence[inside].mean()) * inside.mean()
    return error


def same(a: Tally, b: Tally) -> None:
    np.testing.assert_equal(asdict(a), asdict(b))
    assert list(a.reasons) == list(b.reasons)
    assert summary(a) == summary(b)


@given(cells(), st.lists(st.integers(0, 30), max_size=4), st.randoms(use_true_random=False))
def test_any_order_and_grouping_of_cells_gives_the_same_summary(table, cuts, shuffle: random.Random):
    whole = tally(table, CLASSES)
    edges = sorted({0, *(min(cut, len(table)) for cut in cuts), len(table)})
    parts = [tally(table.slice(start, stop - start), CLASSES) for start, stop in pairwise(edges)] or [whole]
    shuffle.shuffle(parts)
    same(reduce(merge, parts), whole)
    same(reduce(lambda total, part: merge(part, total), parts[::-1]), whole)
    order = shuffle.sample(range(len(table)), len(table))
    same(tally(table.take(pa.array(order, pa.int64())), CLASSES), whole)


@given(cells(), cells(), cells())
def test_merging_is_associative_and_commutative(first, second, third):
    a, b, c = (tally(table, CLASSES) for table in (first, second, third))
    same(merge(merge(a, b), c), merge(a, merge(b, c)))
    same(merge(a, b), merge(b, a))


@given(cells())
def test_counts_are_those_of_a_plain_loop_over_the_rows(table):
    counted = tally(table, CLASSES)
    counts, reasons, per_class, _ = reference(table)
    assert counted.n == len(table)
    assert counted.reasons == reasons
    assert counted.errors == len(table) - counts["valid"]
    got = [counted.classes.n, counted.classes.errors, counted.classes.top1, counted.classes.top5]
    np.testing.assert_array_equal(got, per_class)
    assert all(array.dtype == np.int64 for array in got)
    reported = summary(counted)
    assert (reported.top1_count, reported.top5_count) == tuple(per_class[2:].sum(axis=1))
    assert reported.labelled == per_class[0].sum()


@given(cells(labels=LABELS))
def test_percentages_are_strict_over_all_rows_and_valid_over_those_without_error(table):
    reported = summary(tally(table, CLASSES))
    for whole, top1, top5 in (
        (reported.n, reported.top1, reported.top5),
        (reported.n - reported.errors, reported.top1_valid, reported.top5_valid),
    ):
        expected = (reported.top1_count / whole * 100, reported.top5_count / whole * 100) if whole else (None, None)
        assert (top1, top5) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


@given(cells(labels=LABELS, errors=st.none()).filter(len))
def test_nll_brier_and_ece_agree_with_float64(table):
    nll, brier, confidence, correct = reference(table)[3].T
    reported = summary(tally(table, CLASSES))
    assert reported.nll == pytest.approx(nll.mean(), abs=1e-8)
    assert reported.brier == pytest.approx(brier.mean(), abs=1e-8)
    assert reported.ece == pytest.approx(reference_ece(confidence, correct), abs=1e-8)


def test_certainty_is_in_the_last_bin_zero_in_the_first_and_a_fifth_in_the_fourth():
    rows = [predicted(0, None, weights) for weights in ([1, 1, 1, 1, 1, 0, 0], [5, 0, 0, 0, 0, 0, 0])]
    rows.append(predicted(0, None, [5, 0, 0, 0, 0, 0, 0]) | {"probs": [0.0] * 5})
    bins = tally(cell(rows), CLASSES).bins
    # float32(0.2) is a little above 3/15, the upper edge of the third bin
    assert [b.rows for b in bins] == [1, 0, 0, 1, *[0] * 10, 1]


def test_a_probability_that_underflowed_is_a_large_loss_not_an_infinite_one():
    reported = summary(tally(cell([predicted(6, None, [1, 0, 0, 0, 0, 0, 0])]), CLASSES))
    assert reported.nll == pytest.approx(126 * math.log(2), abs=1e-8)
    assert reported.brier == 2.0


def test_wilson_interval_of_224_of_250_is_the_one_computed_by_hand():
    # p = 0.896, z = 1.959964: (0.896 + 0.0076829 -+ 0.0386118) / 1.0153658
    assert wilson(224, 250) == pytest.approx((85.1980, 92.8035), abs=2e-4)


@given(st.integers(1, 10**9))
def test_wilson_interval_stays_within_0_and_100_at_the_ends(n):
    z2 = 1.959963984540054**2
    assert wilson(0, n) == (pytest.approx(0, abs=1e-9), pytest.approx(100 * z2 / (n + z2)))
    assert wilson(n, n) == (pytest.approx(100 * n / (n + z2)), pytest.approx(100))
    assert 0 <= wilson(0, n)[0] <= wilson(n, n)[1] <= 100
    assert wilson(0, 0) == (None, None)


def test_where_every_row_is_an_error_strict_scores_are_zero_and_valid_ones_undefined():
    reported = summary(tally(cell([predicted(3, "empty file", [])] * 4), CLASSES))
    assert (reported.n, reported.errors, reported.top1, reported.top5) == (4, 4, 0.0, 0.0)
    assert reported.error_reasons == {"empty file": 4}
    undefined = (reported.top1_valid, reported.top5_valid, reported.nll, reported.ece, reported.brier)
    assert undefined == (None,) * 5


def test_an_empty_tally_is_the_identity_of_merging_and_undefined():
    empty = tally(cell_schema(5).empty_table(), CLASSES)
    some = tally(cell([predicted(1, None, [1, 2, 3, 0, 0, 0, 0])]), CLASSES)
    same(merge(empty, some), some)
    reported = summary(empty)
    assert (reported.n, reported.top1, reported.top1_low, reported.nll) == (0, None, None, None)


@given(cells(labels=st.none()))
def test_without_any_label_there_is_no_accuracy(table):
    reported = summary(tally(table, CLASSES))
    assert (reported.labelled, reported.errors, reported.top1_count) == (0, len(table), 0)
    assert (reported.top1, reported.top5, reported.top1_low, reported.top1_valid, reported.ece) == (None,) * 5


def test_a_missing_label_counts_as_an_error_and_as_wrong():
    rows = [predicted(0, None, [9, 1, 1, 1, 1, 1, 1]), predicted(None, None, [9, 1, 1, 1, 1, 1, 1])]
    reported = summary(tally(cell(rows), CLASSES))
    assert (reported.top1, reported.top1_valid) == (50.0, 100.0)
    assert reported.error_reasons == {MISSING_LABEL: 1}


@pytest.mark.parametrize("label", [-1, CLASSES])
@pytest.mark.parametrize(("error", "reason"), [(None, LABEL_RANGE), ("empty file", "empty file")])
def test_a_label_out_of_range_is_an_error_and_counts_for_no_class(label, error, reason):
    fine = predicted(0, None, [9, 1, 1, 1, 1, 1, 1])
    bad = predicted(None, error, [9, 1, 1, 1, 1, 1, 1]) | {"label": label}
    reported = summary(tally(cell([fine, bad]), CLASSES))
    assert (reported.n, reported.errors, reported.top1, reported.top1_valid) == (2, 1, 50.0, 100.0)
    assert reported.error_reasons == {reason: 1}


def test_a_million_rows_sum_without_rounding_beyond_one_unit_each():
    """The bound that the fixed point promises: half of 2**-32 a row."""
    label_prob = np.random.default_rng(0).random(1_000_000, dtype=np.float32)
    table = cell([predicted(0, None, [1, 0, 0, 0, 0, 0, 0])]).take(pa.array(np.zeros(len(label_prob), np.int64)))
    position = table.schema.get_field_index("label_prob")
    table = table.set_column(position, table.field(position), pa.array(label_prob))
    expected = math.fsum(-np.log(label_prob.astype(np.float64))) / len(label_prob)
    assert summary(tally(table, CLASSES)).nll == pytest.approx(expected, abs=2**-33)


def test_a_label_that_is_none_of_the_classes_that_count_is_an_error():
    rows = cell([predicted(label, None, [1] * CLASSES) for label in (3, 4, None)])
    assert tally(rows, CLASSES, (1, 3)).reasons == {LABEL_RANGE: 1, MISSING_LABEL: 1}
    assert tally(rows, CLASSES).reasons == {MISSING_LABEL: 1}
