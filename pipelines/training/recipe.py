"""The recipe of one training stage as data: its length, batches, learning rate schedule and regularisation.

The defaults are those of Yalniz et al. 2019 (arXiv:1905.00546, section 3 and the implementation details of section 4):
`pretraining` on pseudo-labels, `finetuning` on labels.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

_REFERENCE_BATCH = 256
"""Learning rates are stated for a batch of so many images and scaled linearly (Goyal et al. 2017, arXiv:1706.02677)."""
_MICRO_BATCH, _LEAST_MICRO_BATCH = 96, 8
_WARMUP_FACTOR = 6
"""The paper's warm-up begins at 0.1 and ends at 0.6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The recipe of one stage; `--pre` and `--fine` set its fields on the command line."""

    images: int | None = None
    """Length in images processed, as in the paper; give this or --epochs."""
    epochs: float | None = None
    """Length in passes over the data; give this or --images."""
    batch: int = 1536
    """Images of one step, summed over all workers."""
    micro_batch: int | None = None
    """Images in one forward pass of a worker, over which batch norm takes its statistics; a step accumulates the
    gradients of several micro-batches. Default: the greatest divisor of the batch up to 96."""
    lr_per_256: float = 0.1
    """Peak learning rate for a batch of 256; scaled linearly with the batch."""
    warmup: float = 0.05
    """Share of the length over which the learning rate rises from a sixth of its peak."""
    drops: int = 13
    """How many times the learning rate is multiplied by --drop-factor, at equal intervals."""
    drop_factor: float = 0.5
    """Factor of the learning rate at each of the --drops."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 1e-4
    """Weight decay of SGD."""
    decay_norm_and_bias: bool = True
    """Whether weight decay also applies to the parameters of norms and to biases."""
    clip: float | None = None
    """Greatest norm of the gradient of all parameters; a longer one is scaled down to it."""
    label_smoothing: float = 0.0
    """Share of the target probability that is spread over all classes (Szegedy et al. 2016, section 7)."""
    mixup: float = 0.0
    """Alpha of MixUp (Zhang et al. 2018); 0 for none."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al. 2019); 0 for none; with --mixup, each micro-batch gets one of the two at random."""
    ema: float | None = None
    """Decay per step of a moving average of the weights; the average is what is validated and published."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Least and greatest share of the image's area that a random crop covers (Szegedy et al. 2015, section 6)."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and greatest ratio of a random crop's width to its height."""
    flip: float = 0.5
    """Probability that an image is mirrored; 0 where left and right carry meaning, as in digits."""

    @property
    def micro_batch_size(self) -> int:
        """Images of a micro-batch."""
        if self.micro_batch:
            return self.micro_batch
        return max(size for size in range(1, min(_MICRO_BATCH, self.batch) + 1) if self.batch % size == 0)

    @property
    def peak_lr(self) -> float:
        """The peak learning rate at this batch."""
        return self.lr_per_256 * self.batch / _REFERENCE_BATCH

    def steps(self, samples: int) -> int:
        """Steps of the stage on a dataset of `samples` samples."""
        images = self.images if self.images is not None else (self.epochs or 0) * samples
        return max(1, round(images / self.batch))

    def lr(self, step: int, steps: int) -> float:
        """The learning rate of `step`, counted from 0, of `steps`: linear warm-up, then a staircase."""
        dropped = self.peak_lr * self.drop_factor ** (step * (self.drops + 1) // steps)
        warmup_steps = self.warmup * steps
        if step >= warmup_steps:
            return dropped
        return min(dropped, self.peak_lr * (1 + (_WARMUP_FACTOR - 1) * step / warmup_steps) / _WARMUP_FACTOR)


def pretraining() -> Recipe:
    """Step 3 of the paper, training on the selection: learning rate 0.6, halved 13 times at equal intervals."""
    return Recipe()


def finetuning() -> Recipe:
    """Step 4 of the paper, fine-tuning on labels: learning rate 0.0015, divided by ten three times."""
    return Recipe(lr_per_256=0.00025, warmup=0.0, drops=3, drop_factor=0.1)


def with_length(recipe: Recipe, *, images: int | None = None, epochs: float | None = None) -> Recipe:
    """The recipe with this length, unless it has one already."""
    if recipe.images is not None or recipe.epochs is not None:
        return recipe
    return replace(recipe, images=images, epochs=epochs)


def check(recipe: Recipe, option: str, workers: int) -> None:
    """Check that `workers` workers can train with a recipe.

    Args:
        recipe: of the stage.
        option: the prefix of its options on the command line, `--pre` or `--fine`.
        workers: the number of workers.

    Raises:
        ValueError: with the option, the value and the choices.
    """
    if recipe.images is not None and recipe.epochs is not None:
        raise ValueError(f"{option}.images {recipe.images}, {option}.epochs {recipe.epochs}: give one of them")
    for name, value in asdict(recipe).items():
        if (rule := _RULES.get(name)) and value is not None and not rule[1](value):
            raise ValueError(f"{option}.{name.replace('_', '-')} {_shown(value)}: expected {rule[0]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{option}.{name.replace('_', '-')} {value}: expected a finite number")
    _check_micro_batches(recipe, option, workers)


def _check_micro_batches(recipe: Recipe, option: str, workers: int) -> None:
    of_worker, micro = recipe.batch // workers, recipe.micro_batch_size
    if recipe.micro_batch is None and micro < min(_LEAST_MICRO_BATCH, recipe.batch):
        error = f"{option}.batch {recipe.batch}: no divisor from {_LEAST_MICRO_BATCH} to {_MICRO_BATCH}"
        raise ValueError(
            f"{error}, and {micro} images are too few for batch norm; give another batch, or a --micro-batch"
        )
    if recipe.batch % (workers * micro):
        fitting = [size for size in range(1, of_worker + 1) if of_worker % size == 0]
        choices = f"micro-batches of {', '.join(map(str, fitting[-8:]))}" if recipe.batch % workers == 0 else "none"
        error = f"{option}.batch {recipe.batch}: not a multiple of {workers} workers x micro-batches of {micro}"
        raise ValueError(f"{error} (possible with this batch and these workers: {choices})")


def _shown(value: object) -> str:
    return " ".join(map(str, cast(tuple[object, ...], value))) if isinstance(value, tuple) else str(value)


_Rule = tuple[str, Callable[[Any], bool]]
_POSITIVE: _Rule = "a positive number", lambda value: value > 0
_SHARE: _Rule = "a share from 0 to 1", lambda value: 0 <= value <= 1
_NOT_NEGATIVE: _Rule = "a number not below 0", lambda value: value >= 0
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("images", "epochs", "batch", "micro_batch", "lr_per_256", "drop_factor", "clip"), _POSITIVE),
    **dict.fromkeys(("warmup", "momentum", "label_smoothing", "flip", "ema"), _SHARE),
    **dict.fromkeys(("drops", "weight_decay", "mixup", "cutmix"), _NOT_NEGATIVE),
    "crop_scale": ("two shares, the lesser first", lambda pair: 0 < pair[0] <= pair[1] <= 1),
    "crop_ratio": ("two positive ratios, the lesser first", lambda pair: 0 < pair[0] <= pair[1]),
}
