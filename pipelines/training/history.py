"""What a worker keeps between steps and puts into checkpoints: curve, best validation, bad images, sums of the loss.

All workers keep the same history, since everything in it comes from decisions that they share, see `agreement`. Only
speed and waiting depend on the clock; they are reported and not kept.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.data.bad_rate import is_too_high_so_far
from pipelines.records import Dataset
from pipelines.training.agreement import Decision
from pipelines.training.checkpoint import BestValidation, CheckpointContent, LearnerState
from pipelines.training.progress import CurvePoint, Position, TrainingProgress
from pipelines.training.sampling.batches import DataError, SampleBatch

_SHOWN_KEYS = 10


@dataclass(slots=True)
class _Interval:
    """The time since the last point of the curve. The sums are in checkpoints too, the times are not."""

    loss_sum: float = 0.0
    images: int = 0
    started: float = 0.0
    seen: int = 0
    waited: float = 0.0


class History:
    """The history of a training that is validated on `validation` and allows a share `max_bad_rate` of bad images."""

    def __init__(self, validation: Dataset, max_bad_rate: float) -> None:
        self._validation, self._max_bad_rate = validation, max_bad_rate
        self._curve: list[CurvePoint] = []
        self._best: BestValidation | None = None
        self._bad, self._seen, self._interval = 0, 0, _Interval()
        self._examples: list[str] = []

    def restore(self, content: CheckpointContent) -> None:
        """Continue from a checkpoint."""
        self._curve, self._best = list(content.curve), content.best
        self._bad, self._seen = content.bad, content.seen
        self._interval = _Interval(content.loss_sum, content.images, time.monotonic())

    def start_clock(self) -> None:
        """A stage starts: what came before does not count for its speed."""
        self._interval.started = time.monotonic()

    def seconds(self) -> float:
        """Seconds since the last point of the curve."""
        return max(time.monotonic() - self._interval.started, 1e-9)

    def add_waiting(self, seconds: float) -> None:
        """This worker waited so long for a batch."""
        self._interval.waited += seconds

    def add_step(self, decision: Decision, batch: SampleBatch) -> None:
        """Add a step of all workers; `batch` has this worker's samples of it.

        Raises:
            DataError: if too many images are bad; only a worker that had some of them gives examples.
        """
        self._bad += decision.bad
        self._seen += decision.images + decision.bad
        self._examples += [f"{batch.keys[row]}: {error}" for row, error in batch.errors.items()]
        del self._examples[_SHOWN_KEYS:]
        if is_too_high_so_far(self._bad, self._seen, self._max_bad_rate):
            counts = f"{self._bad} of the first {self._seen} images are bad"
            raise DataError(": ".join([counts, *(["; ".join(self._examples)] if self._examples else [])]))
        self._interval.loss_sum += decision.loss_sum
        self._interval.images += decision.images
        self._interval.seen += decision.images + decision.bad

    def add_point(
        self, position: Position, lr: float, metrics: Mapping[str, float] | None, seconds: float
    ) -> TrainingProgress:
        """End the interval with a point of the curve.

        Args:
            position: of the point.
            lr: learning rate of the last step.
            metrics: of the validation after this step; None where there was none.
            seconds: length of the interval, without the validation.
        """
        interval = self._interval
        point = CurvePoint(
            stage=position.stage,
            step=position.step,
            loss=interval.loss_sum / max(1, interval.images),
            lr=lr,
            metrics=metrics,
            validation=f"{self._validation.name}-{self._validation.digest}" if metrics else None,
        )
        self._curve.append(point)
        if metrics and self._is_best(metrics["top1"]):
            self._best = BestValidation(metrics["top1"], position, self._validation.digest)
        self._interval = _Interval(started=time.monotonic())
        return TrainingProgress(
            point=point,
            images_per_second=interval.seen / seconds,
            waiting=interval.waited / seconds,
            bad=self._bad,
        )

    def _is_best(self, top1: float) -> bool:
        """Whether no validation on the same dataset was as good."""
        best = self._best
        return best is None or best.dataset != self._validation.digest or top1 > best.top1

    def content(self, learner: LearnerState, step: int) -> CheckpointContent:
        """The content of a checkpoint after `step` steps of the stage."""
        return CheckpointContent(
            learner=learner,
            step=step,
            curve=tuple(self._curve),
            best=self._best,
            bad=self._bad,
            seen=self._seen,
            loss_sum=self._interval.loss_sum,
            images=self._interval.images,
        )
