"""What the workers of a training agree on at every step: sums over all of them, and what the first one says.

Owns that nobody waits for one that does something else: whether to stop, to save, to ask for preemptions the first
worker decides, and its word travels with the sums. Refuses to act on it: `student` does.
"""

import time
from dataclasses import dataclass
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray import train as ray_train

from pipelines.training.batches import SampleBatch
from pipelines.training.learner import NonFiniteLossError, StepResult

_ASK_SECONDS = 1.0
_SHOWN_KEYS = 10


@dataclass(frozen=True, slots=True)
class Decision:
    """The sums of a step over all workers, and what the first worker says that all do now."""

    loss: float
    images: int
    bad: int
    stop: bool
    save: bool
    ask: bool


class Agreement:
    """The accord of so many workers, as the `rank`-th of them has it; `board` is the driver's."""

    def __init__(self, board: Any, rank: int, workers: int, device: torch.device, save_seconds: float) -> None:
        self._board, self._rank, self._workers, self._device = board, rank, workers, device
        self._save_seconds = save_seconds
        self._saved = self._asked = time.monotonic()
        self._preemption: Any = None
        self._stopping = board.stopping.remote()

    def reach(self, taken: StepResult, batch: SampleBatch) -> Decision:
        """Add up over all workers; what the first says holds for all.

        Raises:
            NonFiniteLossError: if a loss is no number, in every worker; the one that has it names the images.
        """
        now, first = time.monotonic(), self._rank == 0
        ask = first and now - self._asked > _ASK_SECONDS
        save = first and now - self._saved > self._save_seconds
        stop = first and self._is_told_to_stop()
        said = [taken.loss, taken.images, len(batch.errors), len(taken.non_finite), stop, save, ask]
        if self._workers > 1:
            sums = torch.tensor(said, dtype=torch.float64, device=self._device)
            dist.all_reduce(sums)
            said = sums.tolist()
        if taken.non_finite:
            shown = ", ".join(taken.non_finite[:_SHOWN_KEYS])
            more = f" and {len(taken.non_finite) - _SHOWN_KEYS} more" if len(taken.non_finite) > _SHOWN_KEYS else ""
            raise NonFiniteLossError(f"the loss of step {batch.step} is no number; it is of the images {shown}{more}")
        if said[3]:
            raise NonFiniteLossError
        if said[6]:
            self._asked = now
        return Decision(said[0], int(said[1]), int(said[2]), *(bool(flag) for flag in said[4:]))

    def saved(self) -> None:
        """A checkpoint is being written: the next is due so many seconds from now."""
        self._saved = time.monotonic()

    def is_preempted(self) -> bool:
        """Whether it is news that a node of ours will be taken away; every worker asks in the same step."""
        before, self._preemption = self._preemption, ray_train.get_preemption_info()
        return self._preemption is not None and self._preemption != before

    def _is_told_to_stop(self) -> bool:
        ready, _ = ray.wait([self._stopping], timeout=0)
        if not ready:
            return False
        told = ray.get(self._stopping)
        self._stopping = self._board.stopping.remote()
        return bool(told)
