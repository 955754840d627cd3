"""Committed cells -> counts and sums -> the numbers that are reported.

A tally holds whole numbers only, and each reported number is one division at the end: cells may be merged in any order
and any grouping, and the summary is the same to the last bit. Nothing here reads or writes: tables come in, numbers go
out.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute  # the stubs do not know what many of its functions take and return for a column

NUM_BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""
MISSING_LABEL = "missing label"
"""Reason of a row that has neither label nor error, which can be neither right nor wrong."""
LABEL_RANGE = "label out of range"
"""Reason of a row whose label is no class of the model."""

_UNIT = 2**32
"""Terms are rounded to multiples of 1 / _UNIT before they are added, since a sum of floats depends on its order.

The rounding moves a mean by less than 2e-10. A term is below 2**7, so an int64 holds the sum of 16 million rows, more
than any cell has; cells are added as Python integers, which have no bound.
"""
_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""A label probability that has underflowed to zero counts as this one (NLL 87.3), not as an infinite loss."""
_Z = NormalDist().inv_cdf(0.975)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ClassCounts:
    """Labelled rows by label, as arrays (num_classes,): all, with an error, right at top-1, right within top-5."""

    n: Ints
    errors: Ints
    top1: Ints
    top5: Ints


@dataclass(frozen=True, slots=True)
class Bin:
    """The valid rows of one confidence bin: all, right ones, and the sum of their confidences in `_UNIT`s."""

    rows: int
    correct: int
    confidence: int

    @property
    def accuracy(self) -> float:
        """Share of right rows, in [0, 1]; 0 in an empty bin."""
        return self.correct / max(self.rows, 1)

    @property
    def mean_confidence(self) -> float:
        """Mean top-1 probability, in [0, 1]; 0 in an empty bin."""
        return self.confidence / _UNIT / max(self.rows, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Counts and sums of any number of cells of one model; `nll` and `brier` are sums in `_UNIT`s."""

    n: int
    reasons: dict[str, int]
    """Rows with an error, by reason, sorted."""
    classes: ClassCounts
    bins: tuple[Bin, ...]
    nll: int
    brier: int

    @property
    def errors(self) -> int:
        """Rows that cannot be judged."""
        return sum(self.reasons.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The reported numbers of a model on a dataset.

    Accuracies and their bounds are in percent, `nll` in nats, `ece` a share from 0 to 1. `top1` and `top5` are strict:
    a row with an error is wrong. Those named `valid`, and `nll`, `ece` and `brier`, are over the n - errors rows
    without one. `low` and `high` bound the Wilson 95 % interval. Numbers without rows are None: all where no row has a
    label, the valid ones where every row has an error.
    """

    n: int
    errors: int
    top1: float | None
    top5: float | None
    top1_count: int
    top5_count: int
    top1_low: float | None
    top1_high: float | None
    top1_valid: float | None
    top5_valid: float | None
    top1_valid_low: float | None
    top1_valid_high: float | None
    nll: float | None
    ece: float | None
    brier: float | None
    labelled: int
    error_reasons: dict[str, int]


def reasons(
    cell: pa.Table, num_classes: int, subset: Sequence[int] | None = None
) -> "pa.ChunkedArray[pa.StringScalar]":
    """Why each row is an error, null where it is valid.

    The reason is the row's `error` up to the first ": "; else LABEL_RANGE where its label is outside [0, num_classes)
    or, where `subset` is given, none of these classes; else MISSING_LABEL where it has no label.
    """
    failed = pc.list_element(pc.split_pattern(cell["error"], ": ", max_splits=1), 0)
    outside = pc.or_(pc.less(cell["label"], 0), pc.greater_equal(cell["label"], num_classes))
    if subset is not None:
        outside = pc.or_(outside, pc.invert(pc.is_in(cell["label"], value_set=pa.array(subset, pa.int32()))))
        outside = pc.and_(outside, pc.is_valid(cell["label"]))
    beyond = pc.if_else(outside, LABEL_RANGE, pa.scalar(None, pa.string()))
    unlabelled = pc.if_else(pc.is_null(cell["label"]), MISSING_LABEL, pa.scalar(None, pa.string()))
    return pc.coalesce(failed, beyond, unlabelled)


def tally(cell: pa.Table, num_classes: int, subset: Sequence[int] | None = None) -> Tally:
    """Count the rows of `cell` (see `records.cell_schema`), whose labels should be in [0, num_classes), or in `subset`.

    Where a cell keeps fewer than five classes a row, top-5 is over those.
    """
    why = reasons(cell, num_classes, subset)
    valid, failed = cell.filter(pc.is_null(why)), cell.filter(pc.is_valid(why))
    label = valid["label"].to_numpy()
    label_prob, sq_prob = (valid[name].to_numpy().astype(np.float64) for name in ("label_prob", "sq_prob"))
    hits = _matrix(valid["classes"])[:, :5] == label[:, None]
    top1, top5 = hits[:, 0], hits.any(axis=1)

    def by_class(labels: npt.NDArray[Any]) -> Ints:
        known = labels[(labels >= 0) & (labels < num_classes)]
        return np.bincount(known, minlength=num_classes).astype(np.int64)

    return Tally(
        n=cell.num_rows,
        reasons=_by_reason(Counter(cast(list[str], why.drop_null().to_pylist()))),
        classes=ClassCounts(
            n=by_class(cell["label"].drop_null().to_numpy()),
            errors=by_class(failed["label"].drop_null().to_numpy()),
            top1=by_class(label[top1]),
            top5=by_class(label[top5]),
        ),
        bins=_bins(_matrix(valid["probs"])[:, 0].astype(np.float64), top1),
        nll=int(_fixed(-np.log(np.maximum(label_prob, _LEAST_PROBABILITY))).sum()),
        brier=int(_fixed(sq_prob - 2 * label_prob + 1).sum()),
    )


def merge(a: Tally, b: Tally) -> Tally:
    """The tally of the rows of both; exactly associative and commutative."""
    x, y = a.classes, b.classes
    assert len(x.n) == len(y.n), f"tallies of {len(x.n)} and of {len(y.n)} classes"
    return Tally(
        n=a.n + b.n,
        reasons=_by_reason(Counter(a.reasons) + Counter(b.reasons)),
        classes=ClassCounts(x.n + y.n, x.errors + y.errors, x.top1 + y.top1, x.top5 + y.top5),
        bins=tuple(
            Bin(p.rows + q.rows, p.correct + q.correct, p.confidence + q.confidence)
            for p, q in zip(a.bins, b.bins, strict=True)
        ),
        nll=a.nll + b.nll,
        brier=a.brier + b.brier,
    )


def summary(counted: Tally) -> Summary:
    """Divide once: the reported numbers of a tally."""
    classes = counted.classes
    labelled, top1, top5 = (int(by_class.sum()) for by_class in (classes.n, classes.top1, classes.top5))
    strict, valid = (counted.n if labelled else 0), counted.n - counted.errors
    low, high = wilson(top1, strict)
    valid_low, valid_high = wilson(top1, valid)
    gaps = sum(abs(b.correct * _UNIT - b.confidence) for b in counted.bins)
    return Summary(
        n=counted.n,
        errors=counted.errors,
        top1=_percent(top1, strict),
        top5=_percent(top5, strict),
        top1_count=top1,
        top5_count=top5,
        top1_low=low,
        top1_high=high,
        top1_valid=_percent(top1, valid),
        top5_valid=_percent(top5, valid),
        top1_valid_low=valid_low,
        top1_valid_high=valid_high,
        nll=_mean(counted.nll, valid),
        ece=_mean(gaps, valid),
        brier=_mean(counted.brier, valid),
        labelled=labelled,
        error_reasons=counted.reasons,
    )


def wilson(successes: int, trials: int) -> tuple[float, float] | tuple[None, None]:
    """Wilson's 95 % interval of a proportion (Wilson 1927), in percent; (None, None) without trials."""
    if trials == 0:
        return None, None
    share, z2 = successes / trials, _Z**2 / trials
    centre = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def _matrix(column: "pa.ChunkedArray[Any]") -> npt.NDArray[Any]:
    """A column of fixed-size lists without nulls as an array (rows, list size)."""
    return pc.list_flatten(column).to_numpy().reshape(len(column), column.type.list_size)


def _fixed(terms: npt.NDArray[np.float64]) -> Ints:
    assert np.isfinite(terms).all(), "a row without an error has a null or non-finite probability"
    return np.rint(terms * _UNIT).astype(np.int64)


def _bins(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Equal-width bins (lo, hi] over the top-1 probability; the first also holds zero."""
    place = np.searchsorted(np.arange(1, NUM_BINS) / NUM_BINS, confidence, side="left")
    sums = np.zeros(NUM_BINS, np.int64)
    np.add.at(sums, place, _fixed(confidence))
    rows, right = (np.bincount(places, minlength=NUM_BINS) for places in (place, place[correct]))
    return tuple(map(Bin, rows.tolist(), right.tolist(), sums.tolist()))


def _by_reason(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _mean(units: int, rows: int) -> float | None:
    return units / _UNIT / rows if rows else None
