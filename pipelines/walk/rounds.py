"""What rounds of walks know of each other: what went wrong, how long models took, what is still to be walked.

Owns which cells may yet be filled, and that models are parted when together they break. Refuses to walk.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.cells.plan import Plan


@dataclass(slots=True)
class RoundFailures:
    """What rounds meet, with the reasons.

    `away` are shards that could not be read, `absent` models whose weights some scorer could not get: both may be over
    by the next round, and are known anew in each. `failures` are of shards that are wrong, `conflicts` of cells that
    stand with other bytes, `unusable` of models whose weights are wrong: those stay.
    """

    away: dict[int, str] = field(default_factory=dict)
    absent: dict[int, str] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    conflicts: dict[int, str] = field(default_factory=dict)
    unusable: dict[int, str] = field(default_factory=dict)
    broken: str | None = None
    """What broke off the last pass that broke, in this round; `killed` says whether it was workers that died."""
    killed: bool = False
    most: int = 1
    """Models in a pass."""

    def begin(self) -> None:
        """Forget what may be over by the next round."""
        self.away, self.absent, self.broken, self.killed = {}, {}, None, False

    def part(self) -> bool:
        """After a round in which workers died and nothing was committed: have passes of half as many models.

        One of them may be what kills its workers, and the others must not be lost with it. False where each is alone.
        """
        can = self.killed and self.most > 1
        self.most = -(-self.most // 2) if can else self.most
        return can

    def lacking(self, plan: Plan) -> dict[int, str]:
        """Why models had no scorer, of those that still lack cells."""
        return {model: reason for model, reason in self.absent.items() if plan.missing[model]}

    def fillable(self, plan: Plan) -> list[tuple[int, int]]:
        """(Column, shard) of each cell that is not committed and may yet be."""
        return [
            (column, shard)
            for column, missing in enumerate(plan.missing)
            for shard in missing
            if column not in self.unusable and shard not in self.failures
        ]

    def failed(self, plan: Plan) -> dict[int, str]:
        """Why shards failed; of those that were away for us, another job may have filled the cells."""
        lacking = {shard for missing in plan.missing for shard in missing}
        away = {shard: reason for shard, reason in self.away.items() if shard in lacking}
        return away | self.failures | self.conflicts


@dataclass(slots=True)
class ModelTimings:
    """How long models took: rows and seconds, by column."""

    rows: Counter[int] = field(default_factory=Counter)
    seconds: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, models: Sequence[int], scores: pa.Table) -> None:
        """Take in the times of `scores`, of the columns `models`; an actor's first batch, which warms up, has none."""
        timed = scores.group_by("model").aggregate([("seconds", "sum"), ("seconds", "count")])
        for row in timed.filter(pc.field("seconds_count") > 0).to_pylist():
            self.rows[models[row["model"]]] += row["seconds_count"]
            self.seconds[models[row["model"]]] += row["seconds_sum"]

    def speeds(self) -> dict[int, float]:
        """Images a second, by column."""
        return {column: rows / self.seconds[column] for column, rows in self.rows.items() if self.seconds[column] > 0}
