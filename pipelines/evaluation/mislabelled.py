"""Labels against predictions: would they agree far better if the labels were numbered in another way?

The numberings that people meet are tried by name. Any other is estimated on one half of each label's rows and measured
on the other half, so that a few rows a label do not fit by themselves. Numbers of a label's own rows never suffice:
many labels must say the same, or two classes that look alike would.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from zoo import imagenet

pc: Any = pyarrow.compute  # the stubs do not know what many of its functions take and return for a column

Ints = npt.NDArray[np.int64]
_FAR_BETTER = 3
_LEAST_SHARE = 0.2
"""Of all rows that must agree under a numbering with a name: models of less accuracy give no evidence."""
_LEAST_ESTIMATED = 1 / 3
_CHANCE_SHARE = 0.02
"""An estimated numbering counts only where the given labels agree hardly better than by chance."""
_ONE_TO_ONE = 0.8
"""Share of labels whose class no other label has, at least. A model that knows nothing gives all the same few."""
_ERROR = 1e-6
"""How probable so great a difference may be if the given labels were at least as good."""
_MOST_LABELS, _FEWEST_LABELS = 10, 5
"""Different labels that must gain: so many, or all but two of fewer classes."""
_IMAGENET = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Renumbering:
    """A numbering under which labels agree with predictions far better.

    Attributes:
        name: `labels less one (do they count from 1?)`
        given: rows whose label, as it is given, is the top-1 class.
        agree: rows of which that holds under the numbering.
        rows: that were compared.
    """

    name: str
    given: int
    agree: int
    rows: int

    def __str__(self) -> str:
        share, better = (f"{100 * part / self.rows:.1f} %" for part in (self.given, self.agree))
        return f"{self.given:,} of {self.rows:,} ({share}) agree, {self.agree:,} ({better}) would with {self.name}"


def labels_and_tops(tables: Iterable[pa.Table], most: int) -> tuple[Ints, Ints]:
    """Labels and top-1 classes of the first `most` rows that have both; `tables` have a cell's columns."""
    labels: list[Ints] = [np.empty(0, np.int64)]
    tops: list[Ints] = [np.empty(0, np.int64)]
    left = most
    for table in tables:
        scored = table.filter(pc.and_(pc.is_valid(table["label"]), pc.is_valid(table["classes"]))).slice(0, left)
        labels.append(scored["label"].to_numpy().astype(np.int64))
        tops.append(pc.list_element(scored["classes"], 0).to_numpy().astype(np.int64))
        left -= len(scored)
        if not left:
            break
    return np.concatenate(labels), np.concatenate(tops)


def renumbering(
    labels: Ints, tops: Ints, num_classes: int, subsets: Mapping[str, Sequence[int]] | None = None
) -> Renumbering | None:
    """The numbering under which `labels` would surely agree far better with `tops`; None if there is none.

    Args:
        labels: as they are given.
        tops: the top-1 class of each row, in [0, num_classes).
        num_classes: of the model.
        subsets: classes of evaluation sets by name; their labels may be numbered among themselves.
    """
    known = (labels >= 0) & (labels <= num_classes)
    labels, tops = labels[known], tops[known]
    measured = [
        found
        for name, table in _numberings(num_classes, subsets or {})
        if (found := _measure(name, labels, tops, table[labels], num_classes))
        and found.agree >= _LEAST_SHARE * found.rows
    ]
    best = max(measured, key=lambda found: found.agree, default=None)  # orders may share many of their places
    return best or _estimated(labels, tops, num_classes)


def _numberings(num_classes: int, subsets: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Ints]]:
    """Names of numberings, and of each the class that every label from 0 to `num_classes` means; -1 for none."""
    every = list(range(num_classes))
    yield "labels less one (do they count from 1?)", _table(every, num_classes, first=1)
    yield "labels plus one (do they leave the first class out?)", _table(every[1:], num_classes)
    orders = {"folder names 0, 1, 10, 100, … as text": sorted(every, key=str)}
    orders["folder names 1, 10, 100, … as text"] = sorted(every, key=lambda number: str(number + 1))
    if num_classes == _IMAGENET:
        names, devkit = imagenet.class_names(), imagenet.devkit_positions()
        orders["the devkit's ILSVRC2012_ID"] = sorted(every, key=lambda number: devkit[number])
        orders["the names of the classes"] = sorted(every, key=lambda number: names[number].casefold())
    for name, order in orders.items():
        for first in (0, 1):
            yield f"labels in the order of {name}, from {first}", _table(order, num_classes, first)
    for name, classes in subsets.items():
        if max(classes) < num_classes:
            for first in (0, 1):
                among = f"labels as numbers among the {len(classes)} classes of {name}, from {first}"
                yield among, _table(sorted(classes), num_classes, first)


def _table(order: Sequence[int], num_classes: int, first: int = 0) -> Ints:
    """What each label means where the label `first` is the first class of `order`."""
    table = np.full(num_classes + 1, -1, np.int64)
    table[first : first + len(order)] = order
    return table


def _measure(name: str, labels: Ints, tops: Ints, meant: Ints, num_classes: int) -> Renumbering | None:
    """How well the classes that `labels` are `meant` to be agree; None unless surely and far better than as given."""
    given, agree = labels == tops, meant == tops
    gained = Counter[int](labels[agree & ~given].tolist())
    lost = Counter[int](labels[given & ~agree].tolist())
    winners, losers = len(gained - lost), len(lost - gained)  # Counter keeps what is positive
    if winners < _enough_labels(num_classes) or winners < _FAR_BETTER * losers:
        return None
    found = Renumbering(name=name, given=int(given.sum()), agree=int(agree.sum()), rows=len(labels))
    return found if _is_sure(found) else None


def _enough_labels(num_classes: int) -> int:
    return max(_FEWEST_LABELS, min(_MOST_LABELS, num_classes - 2))


def _is_sure(found: Renumbering) -> bool:
    """Whether it agrees far better, by Hoeffding's bound for a fair coin (Hoeffding 1963) beyond chance."""
    decided = found.agree + found.given
    if found.agree <= _FAR_BETTER * found.given:
        return False
    return math.exp(-2 * decided * (found.agree / decided - 0.5) ** 2) < _ERROR


def _estimated(labels: Ints, tops: Ints, num_classes: int) -> Renumbering | None:
    """The numbering that the predictions themselves suggest, measured on rows that it was not made from."""
    half = _alternate(labels)
    meant = np.full(len(labels), -1, np.int64)
    for part in (0, 1):
        usual = _usual_class(labels[half == part], tops[half == part])
        for row in np.flatnonzero(half != part):
            meant[row] = usual.get(int(labels[row]), -1)
    compared = meant >= 0
    labels, tops, meant = labels[compared], tops[compared], meant[compared]
    classes = Counter(_usual_class(labels, tops).values())
    alone = sum(number == 1 for number in classes.values())
    name = "another numbering, estimated from other rows: labels, or the classes of the weights, are in another order"
    found = _measure(name, labels, tops, meant, num_classes)
    if not found or alone < _ONE_TO_ONE * sum(classes.values()) or found.agree < _LEAST_ESTIMATED * found.rows:
        return None
    return found if found.given <= max(_CHANCE_SHARE, 2 / num_classes) * found.rows else None


def _alternate(labels: Ints) -> Ints:
    """0 for the first row of each label, 1 for the second, 0 for the third, and so on."""
    seen: Counter[int] = Counter()
    parts: list[int] = []
    for label in labels.tolist():
        parts.append(seen[label] % 2)
        seen[label] += 1
    return np.array(parts, np.int64)


def _usual_class(labels: Ints, tops: Ints) -> dict[int, int]:
    """The most frequent top-1 class of each label; of several the least."""
    pairs = Counter(zip(labels.tolist(), tops.tolist(), strict=True))
    usual: dict[int, int] = {}
    for (label, top), _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        usual.setdefault(label, top)
    return usual
