"""State carried from round to round: failures, timings, progress, and how many models run together.

A round is one attempt at every cell that is still missing; `filling` runs the rounds.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.cells.plan import Plan


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        images: scored in this run; counted once a pass, whatever the number of models.
        cells: committed by this run.
        bad: images that have an error instead of a score, by the kind of error.
        in_flight: cells of which some rows have arrived.
        model_seconds: spent in models by all actors together.
    """

    images: int = 0
    cells: int = 0
    bad: Counter[str] = field(default_factory=Counter[str])
    in_flight: int = 0
    model_seconds: float = 0.0


@dataclass(slots=True)
class RoundFailures:
    """What went wrong, with the reasons: of shards by position in the dataset, of models by column of the plan.

    `absent_*` and `interruption` may be over by the next round and are collected anew in each; the others stay.
    """

    absent_shards: dict[int, str] = field(default_factory=dict[int, str])
    """Shards that could not be read."""
    absent_models: dict[int, str] = field(default_factory=dict[int, str])
    """Models whose weights some scorer could not get, or that had no room."""
    failed_shards: dict[int, str] = field(default_factory=dict[int, str])
    """Shards whose content is wrong."""
    failed_models: dict[int, str] = field(default_factory=dict[int, str])
    """Models that cannot be loaded or run."""
    conflicts: dict[int, str] = field(default_factory=dict[int, str])
    """Shards with a cell that is committed already, with other bytes."""
    interruption: str | None = None
    """Why the last interrupted pass of this round ended early."""
    workers_died: bool = False
    """Whether that was because workers died."""

    def begin_round(self) -> None:
        """Forget what may be over by now."""
        self.absent_shards, self.absent_models, self.interruption, self.workers_died = {}, {}, None, False

    def fillable(self, plan: Plan) -> Plan:
        """The plan with only those missing cells that another round may still commit."""
        return replace(
            plan,
            missing=tuple(
                () if column in self.failed_models else tuple(i for i in shards if i not in self.failed_shards)
                for column, shards in enumerate(plan.missing)
            ),
        )

    def of_shards(self, plan: Plan) -> dict[int, str]:
        """Why shards failed; not one that was absent, if another job has filled all of its cells meanwhile."""
        missing = {shard for shards in plan.missing for shard in shards}
        absent = {shard: reason for shard, reason in self.absent_shards.items() if shard in missing}
        return absent | self.failed_shards | self.conflicts

    def of_models(self, plan: Plan) -> dict[int, str]:
        """Why models could not be run; not one that was absent, if none of its cells is missing."""
        absent = {column: reason for column, reason in self.absent_models.items() if plan.missing[column]}
        return self.failed_models | absent


@dataclass(slots=True)
class ModelTimings:
    """Rows scored and seconds taken, by column of the plan."""

    rows: Counter[int] = field(default_factory=Counter[int])
    seconds: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, columns: Sequence[int], scores: pa.Table) -> None:
        """Add the times of `scores`.

        Args:
            columns: the columns of the plan that the pass runs, by slot.
            scores: a SCORES table. An actor's first batch has no times, since the model warms up on it.
        """
        timed = scores.group_by("slot").aggregate([("seconds", "sum"), ("seconds", "count")])
        for row in timed.filter(pc.field("seconds_count") > 0).to_pylist():
            self.rows[columns[row["slot"]]] += row["seconds_count"]
            self.seconds[columns[row["slot"]]] += row["seconds_sum"]

    def speeds(self) -> dict[int, float]:
        """Images a second, by column."""
        return {column: rows / self.seconds[column] for column, rows in self.rows.items() if self.seconds[column] > 0}


@dataclass(slots=True)
class RoundState:
    """Everything that one round leaves to the next."""

    models_per_pass: int
    progress: Progress = field(default_factory=Progress)
    failures: RoundFailures = field(default_factory=RoundFailures)
    timings: ModelTimings = field(default_factory=ModelTimings)

    def split_models(self) -> bool:
        """After a round that committed nothing: if workers died in it, run half as many models in a pass.

        One of the models may be what kills the workers, and the others must not be lost with it.

        Returns:
            Whether passes became smaller; not where each model already runs alone.
        """
        if not self.failures.workers_died or self.models_per_pass == 1:
            return False
        self.models_per_pass = -(-self.models_per_pass // 2)
        return True
