"""The driver's side of a training: starts Ray Train's workers, passes on their progress, and stops them.

A lost worker or node costs the steps since the last checkpoint; all workers start again from there. A training that
fails again and again at one place is given up. The driver holds no results: they are in the last checkpoint.
"""

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace

from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from pipelines import storage
from pipelines.cluster.shares import NoDeviceError, resources, share
from pipelines.messages import one_line
from pipelines.training import ownership
from pipelines.training.coordinator import Coordinator
from pipelines.training.progress import TrainingProgress
from pipelines.training.specification import Training
from pipelines.training.worker import work

_POLL_SECONDS = 0.25
_STOP_SECONDS = 12.0
"""Of the 15 seconds that a job has to end after a signal."""
_PASSIVE_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""On CPUs, threads that spin while they wait for each other take the cores of decoding tasks, and their own: with one
busy process beside them, two threads were 25 times slower than one."""


class GivenUpError(ValueError):
    """The training cannot continue; the message says why."""


def train(training: Training, watch: Callable[[TrainingProgress], None], note: Callable[[str], None]) -> None:
    """Train to the end, on the cluster that is connected.

    Args:
        training: what to do.
        watch: called with every report of progress.
        note: called with every line for the user about other events.

    Raises:
        GivenUpError: if a loss is not finite, the data is bad, another job has taken over the training, or workers fail
            again and again.
        UnavailableError: if workers fail because a store is unavailable, or if the cluster is.
        NoDeviceError: if the cluster does not have the GPUs.
    """
    gpus = int(resources()[1])
    if training.device == "cuda" and max(gpus, training.gpus) < training.workers:
        error = f"--workers {training.workers}: the cluster has {gpus} GPUs"
        raise NoDeviceError(f"{error}; --gpus {training.workers} has an autoscaler start more")
    coordinator = Coordinator()
    fit = _Fit(replace(training, owner=ownership.take(training.home)), coordinator)
    try:
        while not fit.over.wait(_POLL_SECONDS):
            _pass_on(coordinator, watch, note)
        _pass_on(coordinator, watch, note)
    except RayError as error:
        raise storage.UnavailableError(f"the cluster is unavailable: {one_line(error)}") from error
    except BaseException:
        _stop(coordinator, fit, note)
        raise
    finally:
        coordinator.close()
    if fit.error is not None:
        reason = one_line(fit.error, from_end=True)
        raise storage.UnavailableError(f"Ray Train gave up: {reason}") from fit.error


def _pass_on(coordinator: Coordinator, watch: Callable[[TrainingProgress], None], note: Callable[[str], None]) -> None:
    update = coordinator.poll()
    for line in update.notes:
        note(line)
    for progress in update.progress:
        watch(progress)
    if update.given_up:
        raise (storage.UnavailableError if update.is_store_unavailable else GivenUpError)(update.given_up)


def _stop(coordinator: Coordinator, fit: "_Fit", note: Callable[[str], None]) -> None:
    """Have the workers write a checkpoint and end, as far as the time allows."""
    if fit.over.is_set():
        return
    if isinstance(sys.exception(), GivenUpError):  # the workers end by themselves
        fit.over.wait(_STOP_SECONDS)
        return
    with contextlib.suppress(RayError):
        coordinator.request_stop(timeout=_STOP_SECONDS)
        is_saved = (
            fit.over.wait(_STOP_SECONDS) and fit.error is None and coordinator.poll(_STOP_SECONDS).checkpoints > 0
        )
        note("stopped after a checkpoint" if is_saved else "stopped without a new checkpoint")


class _Fit:
    """Ray Train at work in a thread; the event `over` is set at its end.

    Waiting for the thread itself does not work: Python 3.11 takes a thread for ended when a signal interrupts `join`.
    """

    def __init__(self, training: Training, coordinator: Coordinator) -> None:
        self.over = threading.Event()
        self.error: Exception | None = None
        threading.Thread(target=self._run, args=(training, coordinator), name="train", daemon=True).start()

    def _run(self, training: Training, coordinator: Coordinator) -> None:
        try:
            _fit(training, coordinator)
        except Exception as error:  # noqa: BLE001  an exception of a thread reaches nobody; `train` looks at it
            self.error = error
        finally:
            self.over.set()


def _fit(training: Training, coordinator: Coordinator) -> None:
    for noisy in ("ray.train", "ray.data"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    gpu = training.device == "cuda"
    shares = share(1, 1, training.device)  # what one worker holds depends on the device alone
    workers = ScalingConfig(
        num_workers=training.workers,
        use_gpu=gpu,
        resources_per_worker={"CPU": shares.actor_cpus, **({"GPU": 1} if gpu else {})},
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            work,
            train_loop_config={"training": training, "coordinator": coordinator},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=workers,
            run_config=RunConfig(
                name=os.path.basename(training.home),
                storage_path=folder,  # for Ray Train's own state; checkpoints are in the training's store
                failure_config=FailureConfig(max_failures=-1),
                worker_runtime_env={} if gpu else {"env_vars": _PASSIVE_THREADS},
            ),
        )
        trainer.fit()
