"""How one stage of training goes: its length, batches, learning rate and regularisation, as data.

Owns the defaults of Yalniz et al. 2019 (arXiv:1905.00546): `pretraining` on pseudo-labels, `finetuning` on labels; and
the learning rate of every step. Refuses to touch a tensor.
"""

import math
from dataclasses import asdict, dataclass, replace

_UNIT = 256
"""Learning rates are said for so many images (Goyal et al. 2017) and scaled linearly with the batch."""
_MICRO_BATCH, _LEAST_MICRO_BATCH = 96, 8
_WARMUP_FROM = 6
"""The paper's warm-up begins at 0.1 and ends at 0.6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One stage."""

    images: int | None = None
    """Length in images processed, as the paper counts it; or else --epochs."""
    epochs: float | None = None
    """Length in passes over the data."""
    batch: int = 1536
    """Images of one step, over all workers."""
    micro_batch: int | None = None
    """Images that a worker's model sees at once, over which batch norm takes its statistics; a step accumulates the
    gradients of several. Where not given, the greatest divisor of the batch up to 96."""
    lr_per_256: float = 0.1
    """Peak learning rate for a batch of 256; it is scaled linearly with the batch."""
    warmup: float = 0.05
    """Share of the length over which the learning rate rises from a sixth of its peak."""
    drops: int = 13
    """How often the learning rate is multiplied by --drop-factor, at equal distances."""
    drop_factor: float = 0.5
    """See --drops."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 1e-4
    """Of SGD."""
    decay_norm_and_bias: bool = True
    """Whether weight decay is for norms and biases too."""
    clip: float | None = None
    """Greatest norm of all gradients together."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes (Szegedy et al. 2016)."""
    mixup: float = 0.0
    """Alpha of MixUp (Zhang et al. 2018); 0 for none."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al. 2019); 0 for none; with --mixup, one of the two by chance."""
    ema: float | None = None
    """Decay a step of a moving average of the weights, which is then validated and published."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Least and greatest share of the picture's area that a random crop takes (Szegedy et al. 2015)."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and greatest width of a random crop by its height."""
    flip: float = 0.5
    """Chance that a picture is mirrored; 0 where left and right mean something, as in digits."""

    @property
    def seen_at_once(self) -> int:
        """Images of a micro-batch."""
        if self.micro_batch:
            return self.micro_batch
        return max(size for size in range(1, min(_MICRO_BATCH, self.batch) + 1) if self.batch % size == 0)

    @property
    def peak(self) -> float:
        """The learning rate at this batch."""
        return self.lr_per_256 * self.batch / _UNIT

    def steps(self, samples: int) -> int:
        """Steps of the stage on a dataset of so many samples."""
        images = self.images if self.images is not None else (self.epochs or 0) * samples
        return max(1, round(images / self.batch))

    def lr(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, of so many."""
        dropped = self.peak * self.drop_factor ** (step * (self.drops + 1) // steps)
        rise = self.warmup * steps
        return (
            dropped if step >= rise else min(dropped, self.peak * (1 + (_WARMUP_FROM - 1) * step / rise) / _WARMUP_FROM)
        )


def pretraining() -> Recipe:
    """Stage 3 of the paper: learning rate 0.6 halved at 13 equal distances."""
    return Recipe()


def finetuning() -> Recipe:
    """Stage 4 of the paper: learning rate 0.0015, three drops by ten."""
    return Recipe(lr_per_256=0.00025, warmup=0.0, drops=3, drop_factor=0.1)


def with_length(recipe: Recipe, *, images: int | None = None, epochs: float | None = None) -> Recipe:
    """The recipe, so long where it does not say how long it is."""
    if recipe.images is not None or recipe.epochs is not None:
        return recipe
    return replace(recipe, images=images, epochs=epochs)


def check(recipe: Recipe, option: str, workers: int) -> None:
    """Refuse what cannot be trained by so many workers.

    Args:
        recipe: the stage.
        option: how its options begin on the command line, `--pre` or `--fine`.
        workers: how many there are.

    Raises:
        ValueError: naming the option, the value and what it may be.
    """
    if recipe.images is not None and recipe.epochs is not None:
        raise ValueError(f"{option}.images {recipe.images}, {option}.epochs {recipe.epochs}: give one of them")
    for name, value in asdict(recipe).items():
        if (rule := _RULES.get(name)) and value is not None and not rule[1](value):
            raise ValueError(f"{option}.{name.replace('_', '-')} {_shown(value)}: expected {rule[0]}")
    if any(isinstance(value, float) and not math.isfinite(value) for value in asdict(recipe).values()):
        raise ValueError(f"{option}: infinite or no number in {asdict(recipe)}")
    share, micro = recipe.batch // workers, recipe.seen_at_once
    if recipe.micro_batch is None and micro < min(_LEAST_MICRO_BATCH, recipe.batch):
        told = f"{option}.batch {recipe.batch}: no divisor from {_LEAST_MICRO_BATCH} to {_MICRO_BATCH}"
        raise ValueError(f"{told}, and batch norm over {micro} images says little; give another, or a --micro-batch")
    if recipe.batch % (workers * micro):
        fitting = [size for size in range(1, share + 1) if share % size == 0]
        choices = f"micro-batches of {', '.join(map(str, fitting[-8:]))}" if recipe.batch % workers == 0 else "none"
        told = f"{option}.batch {recipe.batch}: {workers} workers in micro-batches of {micro} do not divide it"
        raise ValueError(f"{told} (fitting here: {choices})")


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


_POSITIVE = "a positive number", lambda value: value > 0
_SHARE = "a share from 0 to 1", lambda value: 0 <= value <= 1
_NOT_NEGATIVE = "a number not below 0", lambda value: value >= 0
_RULES = {
    **dict.fromkeys(("images", "epochs", "batch", "micro_batch", "lr_per_256", "drop_factor", "clip"), _POSITIVE),
    **dict.fromkeys(("warmup", "momentum", "label_smoothing", "flip", "ema"), _SHARE),
    **dict.fromkeys(("drops", "weight_decay", "mixup", "cutmix"), _NOT_NEGATIVE),
    "crop_scale": ("two shares, the lesser first", lambda pair: 0 < pair[0] <= pair[1] <= 1),
    "crop_ratio": ("two positive ratios, the lesser first", lambda pair: 0 < pair[0] <= pair[1]),
}
