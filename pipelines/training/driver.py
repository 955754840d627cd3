"""A training on the cluster: Ray Train's workers, what they tell, and when they are to stop.

Owns the driver's side: it starts the workers, passes on their news, has them write a checkpoint and end when the job is
told to end, and gives a training up that dies again and again at one place. A lost worker or node costs the steps since
the last checkpoint; all workers start again from there. Refuses to hold results: they are in the last checkpoint.
"""

import contextlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines import storage
from pipelines.cluster.shares import NoDeviceError, resources, share
from pipelines.messages import one_line
from pipelines.training import ownership
from pipelines.training.specification import Training, TrainingProgress
from pipelines.training.worker import work

_POLL_SECONDS = 0.25
_STOP_SECONDS = 12.0
"""Of the 15 that a job has to unwind."""
_WAIT_SECONDS = 45.0
"""Until it is said that workers have not started: some seconds are usual."""
_TRIES = 4
"""Starts in turn without a checkpoint in between: then it is no machine's fault."""
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""On CPUs threads that spin while they wait for each other take the cores of those that decode, and of their own: with
one busy process beside them, two threads were 25 times slower than one."""


class GivenUpError(ValueError):
    """The training cannot go on; the message says why."""


class _Board:
    """Where workers tell and are told; it lives with the driver."""

    def __init__(self) -> None:
        self._news: list[TrainingProgress] = []
        self._notes: list[str] = []
        self._reason: str | None = None
        self._told_to_stop = False
        self._starts = 0
        self._waits_until: float | None = time.monotonic() + _WAIT_SECONDS
        self._fall: tuple[str, bool] = ("they died without a word: killed, or out of memory", False)
        self._is_away = False

    def start(self) -> None:
        """Workers start; too often in turn without a checkpoint in between, and the training is given up."""
        self._starts += 1
        self._waits_until = None
        if self._starts > _TRIES:
            reason, self._is_away = self._fall
            self.give_up(f"workers failed {_TRIES} times in turn; the last time: {reason}")
        elif self._starts > 1:
            self._notes.append("workers start again")

    def fell(self, reason: str, is_away: bool) -> None:
        """A worker ends for this reason; whether a store is away, which may be over later."""
        if self._fall[0] != reason:
            self._notes.append(f"a worker fell: {reason}")
        self._fall = (reason, is_away)

    def begin(self, at: tuple[int, int], damaged: tuple[str, ...]) -> bool:
        """The workers would go on from this stage and step; whether they may."""
        self._notes += [f"passed over: {reason}" for reason in damaged]
        may = self._reason is None and not self._told_to_stop
        if may and at != (0, 0):
            self._notes.append(f"goes on from step {at[1]:,} of stage {at[0] + 1}")
        return may

    def hear(self, news: TrainingProgress) -> None:
        self._news.append(news)

    def kept(self) -> None:
        """A checkpoint is written: what fails now fails at another place."""
        self._starts = 0

    def give_up(self, reason: str) -> None:
        self._reason = self._reason or reason

    def stop(self) -> None:
        self._told_to_stop = True

    def stopping(self) -> bool:
        return self._told_to_stop

    def take(self) -> tuple[list[TrainingProgress], list[str], str | None, bool]:
        """What was told since the last time, why the training is given up, if it is, and whether a store is away."""
        if self._waits_until is not None and time.monotonic() > self._waits_until:
            self._notes.append("workers have not started yet: Ray waits for room for them on the cluster")
            self._waits_until = None
        news, self._news = self._news, []
        notes, self._notes = self._notes, []
        return news, notes, self._reason, self._is_away


def train(training: Training, watch: Callable[[TrainingProgress], None], say: Callable[[str], None]) -> None:
    """Bring a training to its end, on the cluster that is connected.

    Args:
        training: what to do.
        watch: told of news.
        say: told of what happened beside.

    Raises:
        GivenUpError: if a loss is no number, the data is bad, or workers fail again and again.
        UnavailableError: if they do because a store is away, or the cluster is.
        ValueError: if the device is not there.
    """
    there = int(resources()[1])
    if training.device == "cuda" and max(there, training.gpus) < training.workers:
        told = f"--workers {training.workers}: the cluster has {there} GPUs"
        raise NoDeviceError(f"{told}; --gpus {training.workers} has an autoscaler start more")
    board = _board()
    fit = _Fit(replace(training, token=ownership.take(training.home)), board)
    try:
        while not fit.over.wait(_POLL_SECONDS):
            _pass_on(board, watch, say)
        _pass_on(board, watch, say)
    except RayError as error:
        raise storage.UnavailableError(f"the cluster is away: {one_line(error)}") from error
    except BaseException:
        _stop(board, fit, say)
        raise
    finally:
        ray.kill(board)
    if fit.error is not None:
        reason = one_line(fit.error, from_end=True)
        raise storage.UnavailableError(f"Ray Train gave up: {reason}") from fit.error


def _board() -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    # An actor that asks for nothing is placed by way of any node, and dies with one that is dead but not yet known to
    # be: 15 seconds after each spot node that is lost. One that asks for a byte is placed by way of the driver's.
    return ray.remote(_Board).options(num_cpus=0, memory=1, scheduling_strategy=here).remote()


def _pass_on(board: Any, watch: Callable[[TrainingProgress], None], say: Callable[[str], None]) -> None:
    news, notes, reason, is_away = ray.get(board.take.remote())
    for note in notes:
        say(note)
    for one in news:
        watch(one)
    if reason:
        raise (storage.UnavailableError if is_away else GivenUpError)(reason)


def _stop(board: Any, fit: "_Fit", say: Callable[[str], None]) -> None:
    """Have the workers write a checkpoint and end; for so long as there is time."""
    if fit.over.is_set():
        return
    if isinstance(sys.exception(), GivenUpError):  # the workers know, and end
        fit.over.wait(_STOP_SECONDS)
        return
    with contextlib.suppress(RayError):
        ray.get(board.stop.remote(), timeout=_STOP_SECONDS)
        is_saved = fit.over.wait(_STOP_SECONDS) and fit.error is None
        say("stopped after a checkpoint" if is_saved else "stopped; the last checkpoint is an earlier one")


class _Fit:
    """Ray Train at work in a thread; an event says when it is over.

    Not the thread itself: Python 3.11 takes a thread for ended when a signal interrupts who waits for it.
    """

    def __init__(self, training: Training, board: Any) -> None:
        self.over = threading.Event()
        self.error: Exception | None = None
        threading.Thread(target=self._run, args=(training, board), name="train", daemon=True).start()

    def _run(self, training: Training, board: Any) -> None:
        try:
            _fit(training, board)
        except Exception as error:  # noqa: BLE001  what is raised here nobody hears; who waits looks at it
            self.error = error
        finally:
            self.over.set()


def _fit(training: Training, board: Any) -> None:
    for noisy in ("ray.train", "ray.data"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    gpu = training.device == "cuda"
    shares = share(1, 1, training.device)  # for what one worker holds, which depends on the device alone
    workers = ScalingConfig(
        num_workers=training.workers,
        use_gpu=gpu,
        resources_per_worker={"CPU": shares.actor_cpus, **({"GPU": 1} if gpu else {})},
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            work,
            train_loop_config={"training": training, "board": board},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=workers,
            run_config=RunConfig(
                name=os.path.basename(training.home),
                storage_path=folder,  # Ray Train's own notes; checkpoints are ours
                failure_config=FailureConfig(max_failures=-1),
                worker_runtime_env={} if gpu else {"env_vars": _PATIENT},
            ),
        )
        trainer.fit()
