"""A training as data: its stages, its model, and how often it reports, validates and saves.

`training_id` covers everything that the weights depend on, so the same command continues a training and a different
one starts another. Nothing runs here.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from pipelines.records import Dataset, Precision, short_digest
from pipelines.training.recipe import Recipe
from pipelines.training.sampling import order
from pipelines.training.sampling.order import Order
from zoo.cards import Card

StageName = Literal["pretrain", "finetune"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a training.

    Args:
        name: pretrain or finetune.
        recipe: its length, batches, learning rate and regularisation.
        dataset: the shards it reads.
        rows: samples in each of these shards, 0 where not known yet.
        streams: the most streams that are read side by side, see `order`.
    """

    name: StageName
    recipe: Recipe
    dataset: Dataset
    rows: tuple[int, ...]
    streams: int

    @cached_property
    def steps(self) -> int:
        """The number of steps, each of one batch."""
        return self.recipe.steps(sum(self.rows))

    def order(self, seed: int) -> Order:
        """The order of its samples."""
        streams = order.streams(len(self.rows), self.recipe.batch, self.streams)
        return Order(self.rows, self.recipe.batch, streams, seed, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a training reports, validates and saves; no weight depends on it.

    Args:
        log_every: images between two points of the curve; a 200th of the stage where None.
        validate_every: images between two validations; a tenth of the stage where None.
        save_seconds: seconds between two checkpoints.
        keep: checkpoints to keep beside the best one.
        max_bad_rate: the greatest share of images that may be bad.
    """

    log_every: int | None = None
    validate_every: int | None = None
    save_seconds: float = 300.0
    keep: int = 2
    max_bad_rate: float = 0.01

    def reports(self, stage: Stage, step: int) -> bool:
        """Whether there is a report after `step` steps."""
        return _is_due(self.log_every, stage, step, 200) or self.validates(stage, step)

    def validates(self, stage: Stage, step: int) -> bool:
        """Whether there is a validation after `step` steps."""
        return _is_due(self.validate_every, stage, step, 10) or step == stage.steps


def _is_due(images: int | None, stage: Stage, step: int, intervals: int) -> bool:
    """Whether an interval ends at `step`: one of `images` images, or else of `intervals` equal parts of the stage."""
    if images is None:
        return step * intervals // stage.steps > (step - 1) * intervals // stage.steps
    return step % max(1, round(images / stage.recipe.batch)) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Everything that a worker needs to know.

    Args:
        home: folder or prefix of the training in its store.
        card: of the model that is trained; it has no weights yet.
        stages: in their order.
        validation: labelled shards.
        seed: of the weights, the order and the augmentation.
        precision: arithmetic of the forward and backward pass.
        channels_last: memory layout.
        device: cpu or cuda.
        workers: the number of workers (the world size).
        gpus: the most GPUs that an autoscaler may be asked for.
        pace: how often it reports, validates and saves.
        owner: the job that may write into `home`, see `ownership`.
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
    pace: Pace
    owner: str = ""


def training_id(card: Card, stages: tuple[Stage, ...], seed: int, precision: str, channels_last: bool) -> str:
    """Eight hex digits that change with everything the weights depend on, except the number of workers."""
    return short_digest(
        [card.architecture, card.num_classes, asdict(card.preprocessing), seed, precision, channels_last]
        + [[stage.name, asdict(stage.recipe), stage.dataset.digest, stage.streams] for stage in stages]
    )
