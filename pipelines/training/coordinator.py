"""What the driver and the workers of a training exchange, through an actor on the driver's node.

Workers report progress, failures and checkpoints and ask whether to continue; the driver polls for updates and requests
a stop. The coordinator gives up a training whose workers fail repeatedly without a checkpoint in between.
"""

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.training.progress import Position, TrainingProgress

_WAIT_SECONDS = 45.0
"""After this time a note says that workers have not started; usually they start within seconds."""
_TRIES = 4
"""Consecutive starts without a checkpoint in between: more of them cannot be the fault of one machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What happened since the driver polled last.

    Args:
        progress: reports of the workers, the oldest first.
        notes: lines for the user.
        given_up: why the training is given up; None if it is not.
        is_store_unavailable: whether it is given up because a store is unavailable, which may pass.
        checkpoints: the number of checkpoints written since the job started.
    """

    progress: tuple[TrainingProgress, ...]
    notes: tuple[str, ...]
    given_up: str | None
    is_store_unavailable: bool
    checkpoints: int


class _Actor:
    """The state behind `Coordinator`, whose methods have the same names."""

    def __init__(self) -> None:
        self._progress: list[TrainingProgress] = []
        self._notes: list[str] = []
        self._given_up: str | None = None
        self._is_stop_requested = False
        self._starts = self._checkpoints = 0
        self._waits_until: float | None = time.monotonic() + _WAIT_SECONDS
        self._failure: tuple[str, bool] = ("they died without a message: killed, or out of memory", False)
        self._is_store_unavailable = False

    def workers_started(self) -> None:
        self._starts += 1
        self._waits_until = None
        if self._starts > _TRIES:
            reason, self._is_store_unavailable = self._failure
            self.give_up(f"workers failed {_TRIES} times in a row; the last time: {reason}")
        elif self._starts > 1:
            self._notes.append("workers start again")

    def worker_failed(self, reason: str, is_store_unavailable: bool) -> None:
        if self._failure[0] != reason:
            self._notes.append(f"a worker failed: {reason}")
        self._failure = (reason, is_store_unavailable)

    def may_continue(self, position: Position, damaged: tuple[str, ...]) -> bool:
        self._notes += [f"skipped: {reason}" for reason in damaged]
        may = self._given_up is None and not self._is_stop_requested
        if may and position != Position(0, 0):
            self._notes.append(f"continues from step {position.step:,} of stage {position.stage + 1}")
        return may

    def report(self, progress: TrainingProgress) -> None:
        self._progress.append(progress)

    def checkpoint_written(self) -> None:
        self._starts = 0
        self._checkpoints += 1

    def give_up(self, reason: str) -> None:
        self._given_up = self._given_up or reason

    def request_stop(self) -> None:
        self._is_stop_requested = True

    def is_stop_requested(self) -> bool:
        return self._is_stop_requested

    def poll(self) -> Update:
        if self._waits_until is not None and time.monotonic() > self._waits_until:
            self._notes.append("workers have not started yet: Ray waits until the cluster has room for them")
            self._waits_until = None
        progress, self._progress = tuple(self._progress), []
        notes, self._notes = tuple(self._notes), []
        return Update(
            progress=progress,
            notes=notes,
            given_up=self._given_up,
            is_store_unavailable=self._is_store_unavailable,
            checkpoints=self._checkpoints,
        )


class Coordinator:
    """The actor as the driver and the workers call it; can be sent to other processes.

    Raises:
        RayError: by every method that waits for an answer, if the actor or the cluster is lost.
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        # An actor without resource requests is placed by way of any node, and dies with one that is dead but not yet
        # known to be: 15 seconds after each spot node that is lost. One that asks for a byte is placed by way of the
        # driver's node.
        self._actor: Any = ray.remote(_Actor).options(num_cpus=0, memory=1, scheduling_strategy=here).remote()

    def workers_started(self) -> None:
        """Workers start; after too many starts without a checkpoint in between the training is given up."""
        ray.get(self._actor.workers_started.remote())

    def worker_failed(self, reason: str, is_store_unavailable: bool) -> None:
        """A worker ends for this reason."""
        ray.get(self._actor.worker_failed.remote(reason, is_store_unavailable))

    def may_continue(self, position: Position, damaged: tuple[str, ...]) -> bool:
        """Whether the workers may continue from here; `damaged` has a message for each skipped checkpoint."""
        return ray.get(self._actor.may_continue.remote(position, damaged))

    def report(self, progress: TrainingProgress) -> None:
        """Report progress to the driver; does not wait."""
        self._actor.report.remote(progress)

    def checkpoint_written(self) -> None:
        """A checkpoint is written, so the next failure is a new one; does not wait."""
        self._actor.checkpoint_written.remote()

    def give_up(self, reason: str) -> None:
        """The training cannot continue, for this reason."""
        ray.get(self._actor.give_up.remote(reason))

    def request_stop(self, timeout: float) -> None:
        """Have the workers write a checkpoint and end; waits for the actor at most `timeout` seconds."""
        ray.get(self._actor.request_stop.remote(), timeout=timeout)

    def is_stop_requested(self) -> "ObjectRef[bool]":
        """Whether a stop is requested; does not wait for the answer."""
        return self._actor.is_stop_requested.remote()

    def poll(self, timeout: float | None = None) -> Update:
        """What happened since the last call.

        Raises:
            GetTimeoutError: if there is no answer within `timeout` seconds.
        """
        return ray.get(self._actor.poll.remote(), timeout=timeout)

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)
