"""A worker of a training: what Ray Train runs in each of its processes.

The loop of batch, gradients and step, with reports, validations and checkpoints in between. At every step the workers
decide together what to do next, see `agreement`. Everything that a step depends on is in the checkpoint and in the
training's own data, nothing in this process. A loss that is not finite, or data that is mostly bad, ends the training.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import torch
import torch.distributed as dist
from ray import train as ray_train
from ray.train.torch import get_device

from pipelines import storage
from pipelines.cluster.shares import resources, share
from pipelines.messages import error_line
from pipelines.pixels.random_crop import Augmentation
from pipelines.training import checkpoint, ownership, validation
from pipelines.training.agreement import Agreement, Decision
from pipelines.training.checkpoint import Resumed
from pipelines.training.coordinator import Coordinator
from pipelines.training.history import History
from pipelines.training.learner import ComputeSettings, Learner, NonFiniteLossError
from pipelines.training.ownership import NotOwnerError
from pipelines.training.progress import Position
from pipelines.training.sampling import loader, order
from pipelines.training.sampling.batches import DataError, SampleBatch
from pipelines.training.sampling.samples import WorkerShare
from pipelines.training.specification import Stage, Training
from zoo.preprocessing import Interpolation


def work(config: dict[str, Any]) -> None:
    """Run the stages of `config["training"]` from the newest checkpoint on.

    Errors are reported to `config["coordinator"]` before they are raised: Ray Train, which restarts workers, does not
    know why one ended.
    """
    training: Training = config["training"]
    coordinator: Coordinator = config["coordinator"]
    try:
        if ray_train.get_context().get_world_rank() == 0:
            coordinator.workers_started()
        _Worker(training, coordinator).run()
    except (DataError, NonFiniteLossError, NotOwnerError) as error:  # another attempt would end in the same way
        if str(error):
            coordinator.give_up(str(error))
        if training.workers > 1:  # others may wait for this one
            raise
    except Exception as error:
        coordinator.worker_failed(error_line(error), isinstance(error, storage.UnavailableError))
        raise


class _Worker:
    def __init__(self, training: Training, coordinator: Coordinator) -> None:
        context = ray_train.get_context()
        self._training, self._coordinator = training, coordinator
        self._rank, self._world_size = context.get_world_rank(), context.get_world_size()
        self._shares = share(*resources(), training.device)
        self._device = get_device() if training.device == "cuda" else torch.device("cpu")
        if training.device == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
        self._history = History(training.validation, training.pace.max_bad_rate)
        self._agreement = Agreement(coordinator, self._rank, self._world_size, self._device, training.pace.save_seconds)

    def run(self) -> None:
        """All stages; returns early if a stop is requested."""
        resumed = self._resumed()
        if resumed is None:
            return
        saved, content = resumed.saved, resumed.content
        torch.manual_seed(self._training.seed)
        network = self._training.card.network.build(self._training.card.num_classes)
        for number in range(saved.stage if saved else 0, len(self._training.stages)):
            recipe = self._training.stages[number].recipe
            learner = Learner(network, self._training.card.preprocessing, recipe, self._settings())
            first = content.step if content else 0
            if content:
                learner.restore(content.learner)
                self._history.restore(content)
            if saved and not saved.complete:  # it ended before this step was validated
                self._report(Position(number, first), learner)
                self._save(Position(number, first), learner)
            saved = content = None
            if not self._run_stage(number, learner, first):
                return
            network.load_state_dict(learner.weights())

    def _settings(self) -> ComputeSettings:
        training = self._training
        return ComputeSettings(
            device=str(self._device),
            precision=training.precision,
            channels_last=training.channels_last,
            seed=training.seed,
            rank=self._rank,
            world_size=self._world_size,
        )

    def _resumed(self) -> Resumed | None:
        """The checkpoint that all workers continue from, which rank 0 chooses; None if they may not continue."""
        may_continue, resumed = False, Resumed(None, None, ())
        if self._rank == 0:
            ownership.require(self._training.home, self._training.owner)
            resumed = checkpoint.newest(self._training.home)
            position = resumed.saved.position if resumed.saved else Position(0, 0)
            may_continue = self._coordinator.may_continue(position, resumed.damaged)
        choice: list[Any] = [may_continue, resumed.saved]
        if self._world_size > 1:
            dist.broadcast_object_list(choice, src=0)
        may_continue, saved = choice
        if not may_continue:
            return None
        return Resumed(saved, checkpoint.load(saved), ()) if self._rank and saved else resumed

    def _run_stage(self, number: int, learner: Learner, first: int) -> bool:
        """Run a stage from step `first` on; whether it reached its end."""
        stage, pace = self._training.stages[number], self._training.pace
        self._history.start_clock()
        with closing(loader.batches(self._share(stage), first, stage.steps, self._shares, self._world_size)) as batches:
            for done in range(first + 1, stage.steps + 1):
                position = Position(number, done)
                decision = self._step(self._next(batches), learner, stage)
                validates = pace.validates(stage, done)
                if validates:  # which may take longer than a job has left after a signal
                    self._save(position, learner, complete=False)
                if pace.reports(stage, done):
                    self._report(position, learner if validates else None)
                if validates or decision.save or decision.stop or self._is_preempted(decision):
                    self._save(position, learner)
                if decision.stop:
                    return False
        return True

    def _is_preempted(self, decision: Decision) -> bool:
        return decision.poll and self._agreement.is_preempted()

    def _next(self, batches: Iterator[SampleBatch]) -> SampleBatch:
        before = time.monotonic()
        batch = next(batches)
        self._history.add_waiting(time.monotonic() - before)
        return batch

    def _step(self, batch: SampleBatch, learner: Learner, stage: Stage) -> Decision:
        decision = self._agreement.decide(learner.gradients(batch, stage.name), batch)
        self._history.add_step(decision, batch)
        learner.step(stage.recipe.lr(batch.step, stage.steps))
        return decision

    def _share(self, stage: Stage) -> WorkerShare:
        recipe, preprocessing = stage.recipe, self._training.card.preprocessing
        interpolation: Interpolation = preprocessing.interpolation
        augmentation = Augmentation(
            size=preprocessing.size,
            interpolation=interpolation,
            scale=recipe.crop_scale,
            ratio=recipe.crop_ratio,
            flip=recipe.flip,
        )
        stage_order = stage.order(self._training.seed)
        return WorkerShare(
            order=stage_order,
            slots=order.worker_slots(stage_order, self._rank, self._world_size),
            shards=stage.dataset.shards,
            augmentation=augmentation,
            classes=self._training.card.num_classes,
        )

    def _report(self, position: Position, learner: Learner | None) -> None:
        """Add a point to the curve and report it; the learner, if given, is validated."""
        stage, seconds = self._training.stages[position.stage], self._history.seconds()  # without validation
        metrics = self._validate(learner) if learner else None
        lr = stage.recipe.lr(position.step - 1, stage.steps)
        progress = self._history.add_point(position, lr, metrics, seconds)
        if self._rank == 0:
            self._coordinator.report(progress)

    def _validate(self, learner: Learner) -> dict[str, float]:
        training = self._training
        return validation.validate(
            learner, training.card, training.validation, self._shares, self._rank, self._world_size
        )

    def _save(self, position: Position, learner: Learner, *, complete: bool = True) -> None:
        """Rank 0 writes a checkpoint; the other workers have the same state."""
        self._agreement.saved()
        if self._rank:
            return
        home, owner, keep = self._training.home, self._training.owner, self._training.pace.keep
        content = self._history.content(learner.state(), position.step)
        checkpoint.save(home, owner, position, content, complete=complete, keep=keep)
        self._coordinator.checkpoint_written()
