"""A look at the first rows that are scored: what is wrong with the data should not cost a whole run.

The first bad image is printed whole, and once a thousand labelled images have scores, labels are compared with them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from jobs.console.progress import say
from jobs.steps import data_quality
from pipelines.cells.cell import load_cells
from pipelines.cells.plan import Plan
from pipelines.data.evaluation_sets import EvaluationSet, numberings_of
from pipelines.evaluation.mislabelled import Ints, labels_and_tops, renumbering
from pipelines.walk.failures import NON_FINITE, SCORED

if TYPE_CHECKING:
    import pyarrow as pa

LOOKED = 1000
"""Labelled rows of a column that are compared with their labels."""
_GIVEN_UP = 5000
"""Rows after which a column with fewer labels is no longer looked at."""


@dataclass(slots=True)
class FirstRows:
    """What the first rows of a plan's columns show.

    Attributes:
        plan: whose cells are filled.
        evaluation_set: what the data is a copy of. Labels numbered in another way are an error then, else a warning.
        labelled: whether labels, if any, are classes of the models; a pool's need not be.
    """

    plan: Plan
    evaluation_set: EvaluationSet | None
    labelled: bool
    _pairs: dict[int, tuple[Ints, Ints]] = field(default_factory=dict[int, tuple[Ints, Ints]])
    """Labels and top-1 classes so far, by column."""
    _rows: Counter[int] = field(default_factory=Counter[int])
    _judged: set[int] = field(default_factory=set[int])
    _said_bad: bool = False
    _said_doubt: bool = False

    def look_at_cells(self, store: str) -> None:
        """Judge the labels by the first cells that an earlier run has committed.

        Raises:
            ValueError: if they are not the labels of the evaluation set.
        """
        shards = len(self.plan.dataset.shards)
        begun = [column for column, missing in enumerate(self.plan.missing) if len(missing) < shards]
        for column in begun[:1] if self.labelled else ():
            cells = (rows for _, rows in load_cells(store, self.plan.dataset, self.plan.columns[column]))
            try:
                pairs = labels_and_tops(cells, LOOKED)
            except ValueError:  # a damaged cell, which the report names
                return
            self._judge(column, *pairs)

    def look(self, columns: Sequence[int], scores: "pa.Table") -> None:
        """Look at rows that a pass has scored.

        Args:
            columns: the columns of the plan that the pass runs, by slot.
            scores: a SCORES table.

        Raises:
            ValueError: if the labels are not those of the evaluation set.
        """
        # The driver takes every row of a run through here: nothing is filtered that is not needed.
        if not self._said_bad and scores["error"].null_count < len(scores):
            self._say_first_bad(scores.filter(pc.field("kind") == SCORED))
        for slot, column in enumerate(columns):
            if self.labelled and column not in self._judged:
                self._collect(column, scores.filter((pc.field("kind") == SCORED) & (pc.field("slot") == slot)))

    def _say_first_bad(self, scored: "pa.Table") -> None:
        for row in scored.filter(pc.is_valid(pc.field("error"))).select(["shard", *data_quality.BAD_ROW]).to_pylist():
            if not row["error"].startswith(NON_FINITE):
                self._said_bad = True
                say(data_quality.bad_row_line(self.plan.dataset.shards[row.pop("shard")].uri, **row))
                return

    def _collect(self, column: int, rows: "pa.Table") -> None:
        """Add `rows` to what is known of the column; judge its labels once there are enough of them."""
        labels, tops = self._pairs.get(column, (np.empty(0, np.int64), np.empty(0, np.int64)))
        more, their_tops = labels_and_tops([rows], LOOKED - len(labels))
        self._pairs[column] = np.concatenate([labels, more]), np.concatenate([tops, their_tops])
        self._rows[column] += len(rows)
        if len(labels) + len(more) == LOOKED:
            self._judge(column, *self._pairs.pop(column))
        elif self._rows[column] > _GIVEN_UP:
            self._judged.add(column)

    def _judge(self, column: int, labels: Ints, tops: Ints) -> None:
        card = self.plan.columns[column].card
        found = renumbering(labels, tops, card.num_classes, numberings_of(self.evaluation_set))
        self._judged.add(column)
        if not found:
            return
        doubt = data_quality.doubt_line(card, found)
        if self.evaluation_set:
            raise ValueError(f"--dataset {self.evaluation_set.name}: {doubt}")
        if not self._said_doubt:
            say(f"warning: {doubt}")
        self._said_doubt = True
