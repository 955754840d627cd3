"""How far a training is: a position, the points of its curve, and what the driver shows of it.

Every loss is a cross-entropy in nats. `loss_sum` is a sum over images and goes with their number; `loss` is a mean per
image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict


class _StoredValidation(TypedDict, total=False):
    metrics: dict[str, float]
    validation: str | None


class StoredPoint(_StoredValidation):
    """A point of the curve as it stands in a checkpoint; without a validation the two keys of one are absent."""

    stage: int
    step: int
    loss: float
    lr: float


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A point in a training: after `step` steps of stage number `stage`, which is counted from 0."""

    stage: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One point of a training's curve; it depends on the data and the seed, never on the clock.

    Args:
        stage: the number of the stage, counted from 0.
        step: steps of the stage that are done.
        loss: mean training loss per image since the previous point.
        lr: learning rate of the last step.
        metrics: of the validation after this step, accuracies in percent; None where there was none.
        validation: NAME-DIGEST of the dataset of that validation; None where there was none.
    """

    stage: int
    step: int
    loss: float
    lr: float
    metrics: Mapping[str, float] | None = None
    validation: str | None = None

    def to_stored(self) -> StoredPoint:
        """The point as it stands in a checkpoint."""
        validated: _StoredValidation = (
            {"metrics": dict(self.metrics), "validation": self.validation} if self.metrics else {}
        )
        return {"stage": self.stage, "step": self.step, "loss": self.loss, "lr": self.lr, **validated}

    @classmethod
    def from_stored(cls, stored: StoredPoint) -> "CurvePoint":
        """The point that `to_stored` wrote."""
        return cls(**stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """What the workers report to the driver.

    Args:
        point: the new point of the curve.
        images_per_second: speed since the previous report.
        waiting: share of the time since the previous report in which rank 0 waited for data.
        bad: images without a readable image or a usable label, since the training began.
    """

    point: CurvePoint
    images_per_second: float
    waiting: float
    bad: int
