"""What the workers of a training agree on at every step: sums over all of them, and what to do next.

Rank 0 decides when to stop, to save or to poll for preemptions; the decision travels with the sums of the loss, so all
ranks act in the same step and none waits for another. `worker` acts on it.
"""

import time
from dataclasses import dataclass

import ray
import torch
import torch.distributed as dist
from ray import train as ray_train

from pipelines.training.coordinator import Coordinator
from pipelines.training.learner import NonFiniteLossError, StepResult
from pipelines.training.sampling.batches import SampleBatch

_POLL_SECONDS = 1.0
_SHOWN_KEYS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A step over all workers, and what all of them do after it.

    Args:
        loss_sum: cross-entropy summed over all images that count, in nats.
        images: the number of these images.
        bad: the number of images that do not count.
        stop: write a checkpoint and end.
        save: write a checkpoint.
        poll: ask for preemptions.
    """

    loss_sum: float
    images: int
    bad: int
    stop: bool
    save: bool
    poll: bool


class Agreement:
    """Worker `rank`'s side of the agreement of `world_size` workers."""

    def __init__(
        self, coordinator: Coordinator, rank: int, world_size: int, device: torch.device, save_seconds: float
    ) -> None:
        self._coordinator, self._rank, self._world_size = coordinator, rank, world_size
        self._device, self._save_seconds = device, save_seconds
        self._saved = self._polled = time.monotonic()
        self._preemption: ray_train.PreemptionInfo | None = None
        self._stop_answer = coordinator.is_stop_requested()

    def decide(self, result: StepResult, batch: SampleBatch) -> Decision:
        """Add up the results of all workers, and learn what rank 0 decides.

        Raises:
            NonFiniteLossError: in every worker, if a loss is infinite or NaN; only the worker whose loss it is names
                the images.
        """
        now, is_first = time.monotonic(), self._rank == 0
        poll = is_first and now - self._polled > _POLL_SECONDS
        save = is_first and now - self._saved > self._save_seconds
        stop = is_first and self._is_stop_requested()
        loss_sum, images, bad, non_finite, *flags = self._summed(
            [result.loss_sum, result.images, len(batch.errors), len(result.non_finite), stop, save, poll]
        )
        if result.non_finite:
            shown = ", ".join(result.non_finite[:_SHOWN_KEYS])
            hidden = len(result.non_finite) - _SHOWN_KEYS
            more = f" and {hidden} more" if hidden > 0 else ""
            raise NonFiniteLossError(f"the loss of step {batch.step} is not finite; its images: {shown}{more}")
        if non_finite:
            raise NonFiniteLossError
        stop, save, poll = map(bool, flags)
        if poll:
            self._polled = now
        return Decision(loss_sum=loss_sum, images=int(images), bad=int(bad), stop=stop, save=save, poll=poll)

    def _summed(self, values: list[float]) -> list[float]:
        """Each value summed over all workers; in this way the flags of rank 0 reach every worker."""
        if self._world_size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(sums)
        return sums.tolist()

    def saved(self) -> None:
        """A checkpoint is being written: the next one is due `save_seconds` from now."""
        self._saved = time.monotonic()

    def is_preempted(self) -> bool:
        """Whether a preemption of one of the workers' nodes is announced that was not before.

        Every worker has to call this in the same step.
        """
        before, self._preemption = self._preemption, ray_train.get_preemption_info()
        return self._preemption is not None and self._preemption != before

    def _is_stop_requested(self) -> bool:
        """The latest answer of the coordinator, without waiting for the next."""
        ready, _ = ray.wait([self._stop_answer], timeout=0)
        if not ready:
            return False
        answer = ray.get(self._stop_answer)
        self._stop_answer = self._coordinator.is_stop_requested()
        return answer
