"""A worker of a training: what Ray Train runs in each of its processes.

Owns the loop: batch, gradients, step; and beside it news, validations and checkpoints. What workers do together, they
agree on at every step, see `accord`. Refuses to go on after a loss that is no number, or on data that is mostly bad.
Everything that a step depends on is in the checkpoint and in the training's own data, nothing in this process.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray import train as ray_train
from ray.train.torch import get_device

from pipelines import storage
from pipelines.cluster.shares import resources, share
from pipelines.data.bad_rate import is_too_high
from pipelines.pixels.random_crop import Augmentation
from pipelines.training import checkpoint, loader, order, ownership, specification, validation
from pipelines.training.agreement import Agreement, Decision
from pipelines.training.batches import DataError, SampleBatch, WorkerShare
from pipelines.training.checkpoint import Resumed, Saved
from pipelines.training.learner import How, Learner, NonFiniteLossError
from pipelines.training.specification import Stage, Training, TrainingProgress
from zoo.preprocessing import Interpolation

_JUDGED_IMAGES = 1000
_SHOWN_KEYS = 10
_LONGEST_REASON = 300


def work(config: dict[str, Any]) -> None:
    """Go through the stages of `training` from the newest checkpoint; `board` is the actor that hears of it.

    What goes wrong is told there before it is raised: whoever restarts a worker does not know why it ended.
    """
    training, board = config["training"], config["board"]
    try:
        if ray_train.get_context().get_world_rank() == 0:
            ray.get(board.start.remote())
        _Worker(training, board).run()
    except (DataError, NonFiniteLossError) as error:  # the same again would end the same
        if str(error):
            ray.get(board.give_up.remote(str(error)))
        if training.workers > 1:  # others may wait for this one
            raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]
        ray.get(board.fell.remote(said, isinstance(error, storage.UnavailableError)))
        raise


@dataclass(slots=True)
class _Since:
    """What has been since the last news. The sums are in checkpoints too, the times are not."""

    loss: float = 0.0
    images: int = 0
    started: float = 0.0
    seen: int = 0
    waited: float = 0.0


class _Worker:
    def __init__(self, training: Training, board: Any) -> None:
        context = ray_train.get_context()
        self._training, self._board = training, board
        self._rank, self._workers = context.get_world_rank(), context.get_world_size()
        self._shares = share(*resources(), training.device)
        self._device = get_device() if training.device == "cuda" else torch.device("cpu")
        if training.device == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
        self._curve: list[dict[str, Any]] = []
        self._best: tuple[float, int, int, str] | None = None
        self._bad, self._seen, self._since = 0, 0, _Since()
        self._examples: list[str] = []
        self._accord = Agreement(board, self._rank, self._workers, self._device, training.pace.save_seconds)

    def run(self) -> None:
        """All stages; returns early where the board says so."""
        begins, saved, state = self._found()
        if not begins:
            return
        torch.manual_seed(self._training.seed)
        network = self._training.card.network.build(self._training.card.num_classes)
        for number in range(saved.stage if saved else 0, len(self._training.stages)):
            stage = self._training.stages[number]
            learner = Learner(network, self._training.card.preprocessing, stage.recipe, self._how())
            first = self._restored(learner, state) if state else 0
            state = None
            if saved and not saved.told:  # it ended before it was validated
                self._tell(number, first, learner)
                self._save(number, first, learner)
            saved = None
            if not self._stage(number, learner, first):
                return
            network.load_state_dict(learner.result())

    def _how(self) -> How:
        training = self._training
        return How(
            device=str(self._device),
            precision=training.precision,
            channels_last=training.channels_last,
            seed=training.seed,
            rank=self._rank,
            workers=self._workers,
        )

    def _found(self) -> tuple[bool, Saved | None, dict[str, Any] | None]:
        """Whether to begin, and the checkpoint that all go on from: the first worker's word and choice."""
        begins, found = False, Resumed(None, None, ())
        if self._rank == 0:
            self._require_ours()
            found = checkpoint.newest(self._training.home)
            at = (found.saved.stage, found.saved.step) if found.saved else (0, 0)
            begins = ray.get(self._board.begin.remote(at, found.damaged))
        choice: list[Any] = [begins, found.saved]
        if self._workers > 1:
            dist.broadcast_object_list(choice, src=0)
        begins, saved = choice
        if self._rank and begins and saved:
            return begins, saved, checkpoint.load(saved)
        return begins, saved, found.content

    def _require_ours(self) -> None:
        """See that the driver's store is ours, and that no later job has taken this training over."""
        if not ownership.is_held(self._training.home, self._training.token):
            raise DataError(
                f"{self._training.home}: the workers do not see what the driver wrote there: it is no store that every "
                "node reaches, or another job has taken this training over"
            )

    def _restored(self, learner: Learner, state: Mapping[str, Any]) -> int:
        learner.restore(state["learner"])
        self._curve, self._best = list(state["curve"]), state["best"]
        self._bad, self._seen = state["bad"], state["seen"]
        self._since = _Since(state["loss"], state["images"], time.monotonic())
        return state["step"]

    def _stage(self, number: int, learner: Learner, first: int) -> bool:
        """One stage from step `first`; whether it came to its end."""
        stage = self._training.stages[number]
        ration = self._ration(stage)
        self._since.started = time.monotonic()
        with closing(loader.batches(ration, first, stage.steps, self._shares, self._workers)) as fed:
            for done in range(first + 1, stage.steps + 1):
                word = self._step(self._next(fed), learner, stage)
                validates = self._training.pace.validates(stage, done)
                if validates:  # which may take longer than there is time after a signal
                    self._save(number, done, learner, told=0)
                if self._training.pace.tells(stage, done):
                    self._tell(number, done, learner if validates else None)
                if validates or word.save or word.stop or (word.ask and self._accord.is_preempted()):
                    self._save(number, done, learner)
                if word.stop:
                    return False
        return True

    def _next(self, fed: Iterator[SampleBatch]) -> SampleBatch:
        before = time.monotonic()
        batch = next(fed)
        self._since.waited += time.monotonic() - before
        return batch

    def _step(self, batch: SampleBatch, learner: Learner, stage: Stage) -> Decision:
        word = self._accord.reach(learner.gradients(batch, stage.name), batch)
        self._require_sound(word, batch)
        learner.step(stage.recipe.lr(batch.step, stage.steps))
        self._since.loss += word.loss
        self._since.images += word.images
        self._since.seen += word.images + word.bad
        return word

    def _ration(self, stage: Stage) -> WorkerShare:
        recipe, preprocessing = stage.recipe, self._training.card.preprocessing
        interpolation: Interpolation = preprocessing.interpolation
        how = Augmentation(
            size=preprocessing.size,
            interpolation=interpolation,
            scale=recipe.crop_scale,
            ratio=recipe.crop_ratio,
            flip=recipe.flip,
        )
        order_ = stage.order(self._training.seed)
        return WorkerShare(
            order=order_,
            places=order.places(order_, self._rank, self._workers),
            shards=stage.dataset.shards,
            augmentation=how,
            classes=self._training.card.num_classes,
        )

    def _require_sound(self, word: Decision, batch: SampleBatch) -> None:
        self._bad += word.bad
        self._seen += word.images + word.bad
        self._examples += [f"{batch.keys[row]}: {error}" for row, error in batch.errors.items()]
        del self._examples[_SHOWN_KEYS:]
        if is_too_high(self._bad, max(self._seen, _JUDGED_IMAGES), self._training.pace.max_bad_rate):
            told = f"{self._bad} of the first {self._seen} images are bad"
            raise DataError(": ".join([told, *(["; ".join(self._examples)] if self._examples else [])]))

    def _validated(self, learner: Learner) -> dict[str, float]:
        training, part = self._training, (self._rank, self._workers)
        weights = learner.network, learner.result()
        return validation.validate(*weights, training.card, training.validation, part, self._shares)

    def _tell(self, number: int, step: int, learner: Learner | None) -> None:
        """Tell what has been since the last news, and validate the learner, if there is one."""
        since, seconds = self._since, time.monotonic() - self._since.started
        stage = self._training.stages[number]
        validated = self._validated(learner) if learner else None
        news = TrainingProgress(
            stage=number,
            step=step,
            loss=since.loss / max(1, since.images),
            lr=stage.recipe.lr(step - 1, stage.steps),
            images_per_second=since.seen / max(seconds, 1e-9),
            waiting=since.waited / max(seconds, 1e-9),
            bad=self._bad,
            metrics=validated,
        )
        on = self._training.validation
        self._curve.append(specification.point(news, f"{on.name}-{on.digest}"))
        if validated and (self._best is None or self._best[3] != on.digest or validated["top1"] > self._best[0]):
            self._best = validated["top1"], number, step, on.digest
        self._since = _Since(started=time.monotonic())
        if self._rank == 0:
            self._board.hear.remote(news)

    def _save(self, number: int, step: int, learner: Learner, told: int = 1) -> None:
        """The first worker writes; the others have the same."""
        self._accord.saved()
        if self._rank:
            return
        self._require_ours()
        content = {
            "learner": learner.state(),
            "step": step,
            "curve": self._curve,
            "best": self._best,
            "bad": self._bad,
            "seen": self._seen,
            "loss": self._since.loss,
            "images": self._since.images,
        }
        saved = checkpoint.write(self._training.home, (number, step), content, told)
        checkpoint.prune(self._training.home, saved, self._training.pace.keep, self._best and self._best[1:3])
        self._board.kept.remote()
