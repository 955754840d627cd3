"""A worker of a training: what Ray Train runs in each of its processes.

The loop of batch, gradients and step, with reports, validations and checkpoints in between. What the workers do
together they decide at every step, see `agreement`. Everything that a step depends on is in the checkpoint and in the
training's own data, nothing in this process. A loss that is not finite, or data that is mostly bad, ends the training.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from ray import train as ray_train
from ray.train.torch import get_device

from pipelines import storage
from pipelines.cluster.shares import resources, share
from pipelines.pixels.random_crop import Augmentation
from pipelines.records import JUDGED_ERRORS
from pipelines.training import checkpoint, loader, order, ownership, validation
from pipelines.training.agreement import Agreement, Decision
from pipelines.training.batches import DataError, SampleBatch
from pipelines.training.checkpoint import BestValidation, CheckpointContent, Resumed, Saved
from pipelines.training.coordinator import Coordinator
from pipelines.training.learner import ComputeSettings, Learner, NonFiniteLossError
from pipelines.training.ownership import NotOwnerError
from pipelines.training.progress import CurvePoint, Position, TrainingProgress
from pipelines.training.samples import WorkerShare
from pipelines.training.specification import Stage, Training
from zoo.preprocessing import Interpolation

_JUDGED_IMAGES = 1000
"""Images before which the share of bad ones is not judged: it is compared with that of so many."""
_SHOWN_KEYS = 10
_LONGEST_REASON = 300


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
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]
        coordinator.worker_failed(reason, isinstance(error, storage.UnavailableError))
        raise


@dataclass(slots=True)
class _Interval:
    """What happened since the last point of the curve. The sums are in checkpoints too, the times are not."""

    loss_sum: float = 0.0
    images: int = 0
    started: float = 0.0
    seen: int = 0
    waited: float = 0.0


class _Worker:
    def __init__(self, training: Training, coordinator: Coordinator) -> None:
        context = ray_train.get_context()
        self._training, self._coordinator = training, coordinator
        self._rank, self._world_size = context.get_world_rank(), context.get_world_size()
        self._shares = share(*resources(), training.device)
        self._device = get_device() if training.device == "cuda" else torch.device("cpu")
        if training.device == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
        self._curve: list[CurvePoint] = []
        self._best: BestValidation | None = None
        self._bad, self._seen, self._interval = 0, 0, _Interval()
        self._examples: list[str] = []
        self._agreement = Agreement(coordinator, self._rank, self._world_size, self._device, training.pace.save_seconds)

    def run(self) -> None:
        """All stages; returns early if a stop is requested."""
        may_continue, saved, content = self._resumed()
        if not may_continue:
            return
        torch.manual_seed(self._training.seed)
        network = self._training.card.network.build(self._training.card.num_classes)
        for number in range(saved.stage if saved else 0, len(self._training.stages)):
            recipe = self._training.stages[number].recipe
            learner = Learner(network, self._training.card.preprocessing, recipe, self._settings())
            first = self._restore(learner, content) if content else 0
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

    def _resumed(self) -> tuple[bool, Saved | None, CheckpointContent | None]:
        """Whether to continue, and the checkpoint that all workers continue from: rank 0 chooses it."""
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
        if self._rank and may_continue and saved:
            return may_continue, saved, checkpoint.load(saved)
        return may_continue, saved, resumed.content

    def _restore(self, learner: Learner, content: CheckpointContent) -> int:
        """Continue from a checkpoint; returns the step of the stage that comes next."""
        learner.restore(content.learner)
        self._curve, self._best = list(content.curve), content.best
        self._bad, self._seen = content.bad, content.seen
        self._interval = _Interval(content.loss_sum, content.images, time.monotonic())
        return content.step

    def _run_stage(self, number: int, learner: Learner, first: int) -> bool:
        """Run a stage from step `first` on; whether it reached its end."""
        stage, pace = self._training.stages[number], self._training.pace
        self._interval.started = time.monotonic()
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
        self._interval.waited += time.monotonic() - before
        return batch

    def _step(self, batch: SampleBatch, learner: Learner, stage: Stage) -> Decision:
        decision = self._agreement.decide(learner.gradients(batch, stage.name), batch)
        self._check_bad_images(decision, batch)
        learner.step(stage.recipe.lr(batch.step, stage.steps))
        self._interval.loss_sum += decision.loss_sum
        self._interval.images += decision.images
        self._interval.seen += decision.images + decision.bad
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

    def _check_bad_images(self, decision: Decision, batch: SampleBatch) -> None:
        self._bad += decision.bad
        self._seen += decision.images + decision.bad
        self._examples += [f"{batch.keys[row]}: {error}" for row, error in batch.errors.items()]
        del self._examples[_SHOWN_KEYS:]
        allowed = self._training.pace.max_bad_rate * max(self._seen, _JUDGED_IMAGES)
        if self._bad > max(allowed, JUDGED_ERRORS - 1):
            counts = f"{self._bad} of the first {self._seen} images are bad"
            raise DataError(": ".join([counts, *(["; ".join(self._examples)] if self._examples else [])]))

    def _validate(self, learner: Learner) -> dict[str, float]:
        training = self._training
        return validation.validate(
            learner, training.card, training.validation, self._shares, self._rank, self._world_size
        )

    def _report(self, position: Position, learner: Learner | None) -> None:
        """Add a point to the curve and report it; the learner, if given, is validated."""
        interval, seconds = self._interval, max(time.monotonic() - self._interval.started, 1e-9)
        stage, dataset = self._training.stages[position.stage], self._training.validation
        metrics = self._validate(learner) if learner else None
        point = CurvePoint(
            stage=position.stage,
            step=position.step,
            loss=interval.loss_sum / max(1, interval.images),
            lr=stage.recipe.lr(position.step - 1, stage.steps),
            metrics=metrics,
            validation=f"{dataset.name}-{dataset.digest}" if metrics else None,
        )
        self._curve.append(point)
        if metrics and self._is_best(metrics["top1"]):
            self._best = BestValidation(metrics["top1"], position, dataset.digest)
        self._interval = _Interval(started=time.monotonic())
        if self._rank == 0:
            progress = TrainingProgress(
                point=point,
                images_per_second=interval.seen / seconds,
                waiting=interval.waited / seconds,
                bad=self._bad,
            )
            self._coordinator.report(progress)

    def _is_best(self, top1: float) -> bool:
        best = self._best
        return best is None or best.dataset != self._training.validation.digest or top1 > best.top1

    def _save(self, position: Position, learner: Learner, *, complete: bool = True) -> None:
        """Rank 0 writes a checkpoint; the other workers have the same state."""
        self._agreement.saved()
        if self._rank:
            return
        content = CheckpointContent(
            learner=learner.state(),
            step=position.step,
            curve=tuple(self._curve),
            best=self._best,
            bad=self._bad,
            seen=self._seen,
            loss_sum=self._interval.loss_sum,
            images=self._interval.images,
        )
        training = self._training
        checkpoint.save(training.home, training.owner, position, content, complete=complete, keep=training.pace.keep)
        self._coordinator.checkpoint_written()
