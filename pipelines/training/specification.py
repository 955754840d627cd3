"""A training as data: its stages, its model, its pace; and what is told of it on the way.

Owns the identity of a training: what its weights depend on, so that the same command goes on with it and another one
does not. Refuses to run anything.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from pipelines.records import Dataset, Precision, short_digest
from pipelines.training import order
from pipelines.training.order import Order
from pipelines.training.recipe import Recipe
from zoo.cards import Card

StageName = Literal["pretrain", "finetune"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: `rows` are the samples of each shard of `dataset`, which has at most `streams` streams."""

    name: StageName
    recipe: Recipe
    dataset: Dataset
    rows: tuple[int, ...]
    streams: int

    @cached_property
    def steps(self) -> int:
        """How many batches."""
        return self.recipe.steps(sum(self.rows))

    def order(self, seed: int) -> Order:
        """In which order its samples come."""
        streams = order.streams(len(self.rows), self.recipe.batch, self.streams)
        return Order(self.rows, self.recipe.batch, streams, seed, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What happens beside learning; none of it changes a weight.

    Progress is told and validation made every so many images (a stage's 200th and 10th part where None), a checkpoint
    written every so many seconds; `keep` of them are kept, beside the best. `max_bad_rate` is the share of images that
    may be bad.
    """

    log_every: int | None = None
    validate_every: int | None = None
    save_seconds: float = 300.0
    keep: int = 2
    max_bad_rate: float = 0.01

    def tells(self, stage: Stage, step: int) -> bool:
        """Whether there is a report after so many steps."""
        return _is_due(self.log_every, stage, step, 200) or self.validates(stage, step)

    def validates(self, stage: Stage, step: int) -> bool:
        """Whether there is a validation after so many steps."""
        return _is_due(self.validate_every, stage, step, 10) or step == stage.steps


def _is_due(images: int | None, stage: Stage, step: int, parts: int) -> bool:
    """Whether this step ends one of the stage's parts, or of those of so many images."""
    if images is None:
        return step * parts // stage.steps > (step - 1) * parts // stage.steps
    return step % max(1, round(images / stage.recipe.batch)) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """All that a worker has to know.

    `card` is of the model that is to be; `home` is where checkpoints lie, `token` says which job may write there.
    """

    home: str
    card: Card
    stages: tuple[Stage, ...]
    validation: Dataset
    seed: int
    precision: Precision
    channels_last: bool
    device: str
    workers: int
    gpus: int = 0
    """That an autoscaler may be asked for."""
    pace: Pace
    token: str = ""


def training_id(card: Card, stages: tuple[Stage, ...], seed: int, precision: str, channels_last: bool) -> str:
    """Eight hex digits that change with whatever the weights depend on, but for the number of workers."""
    return short_digest(
        [card.architecture, card.num_classes, asdict(card.preprocessing), seed, precision, channels_last]
        + [[stage.name, asdict(stage.recipe), stage.dataset.digest, stage.streams] for stage in stages]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """How far a training is: after `step` steps of a stage, counted from 0 in `stages`.

    `loss` is the mean since the news before, `images_per_second` and `waiting` (the share of the time in which workers
    waited for data) likewise; `metrics` are those of a validation, where there was one just now.
    """

    stage: int
    step: int
    loss: float
    lr: float
    images_per_second: float
    waiting: float
    bad: int
    metrics: Mapping[str, float] | None = None


def point(news: TrainingProgress, validation: str) -> dict[str, Any]:
    """What of the news is kept in checkpoints: what does not depend on the clock; and on what was validated."""
    return {
        "stage": news.stage,
        "step": news.step,
        "loss": news.loss,
        "lr": news.lr,
        **({"metrics": dict(news.metrics), "validation": validation} if news.metrics else {}),
    }
