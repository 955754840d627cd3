"""Why a model has no scores on a shard or on an image: the failures that travel among the rows of SCORES.

A failure of a whole shard or model is one row of SCORES; `Failure` is its only reader and writer.
"""

from dataclasses import dataclass
from typing import Literal, cast

import pyarrow as pa

from pipelines.records import SCORES

FailureKind = Literal["failed_shard", "absent_shard", "failed_model", "absent_model"]
"""`failed`: wrong, and wrong again at every attempt. `absent`: could not be read or loaded at that time and place; the
next attempt may succeed."""
SCORED = "scored"
"""`kind` of a row of SCORES that holds the scores of an image, or why that image has none."""
EMPTY = "empty"
"""`kind` of a row of SCORES that stands for a shard without samples."""
NON_FINITE = "non-finite scores"
"""Prefix of the `error` of a row for which the model is to blame, not the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one model has no scores on one shard.

    Attributes:
        kind: whether the shard or the model is at fault, and whether another attempt may succeed.
        slot: position of the model in the pass.
        shard: position of the shard in the dataset.
        reason: one line for the user.
    """

    kind: FailureKind
    slot: int
    shard: int
    reason: str

    def as_scores(self) -> pa.Table:
        """The one row of SCORES that stands for this failure."""
        row = {"kind": self.kind, "slot": self.slot, "shard": self.shard, "last": False, "error": self.reason}
        return pa.Table.from_pylist([row], schema=SCORES)

    @staticmethod
    def from_scores(scores: pa.Table) -> "Failure | None":
        """The failure that the first row of `scores` stands for; None where it stands for none."""
        kind = scores["kind"][0].as_py()
        if kind in {SCORED, EMPTY}:
            return None
        slot, shard, reason = (scores[name][0].as_py() for name in ("slot", "shard", "error"))
        return Failure(kind=cast(FailureKind, kind), slot=slot, shard=shard, reason=reason)
