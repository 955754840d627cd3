"""The options of a training, and their checks."""

from dataclasses import dataclass, field

from jobs.console import cli
from jobs.steps import options
from jobs.steps.reading_options import ReadingOptions
from pipelines.models.precision import require_precision
from pipelines.records import Precision
from pipelines.training import recipe
from pipelines.training.recipe import Recipe
from zoo.preprocessing import Interpolation


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(cli.Job):
    """What to train, on what, how, and where."""

    model: str
    """Architecture: a name from `python -m zoo`, or cifar_resnet8 or cifar_resnet20 for small images."""
    pretrain: tuple[str, ...]
    """Shards (as for --data of other jobs) of the first stage: for a student a materialised selection,
    for a teacher or baseline labelled shards."""
    finetune: tuple[str, ...] = ()
    """Labelled shards of the second stage; without them there is only one stage."""
    val: tuple[str, ...]
    """Labelled shards for validation, with the metrics of `jobs.evaluate`."""
    sign_request: bool = True
    """`--no-sign-request` reads shards without credentials, as public buckets allow; AWS_NO_SIGN_REQUEST=1 does too.
    The store needs credentials in any case."""
    store: str = "output"
    """Folder or s3:// URI for checkpoints, curves, weights and cards."""
    name: str | None = None
    """Name of the trained model, --model by default; eight hexadecimal digits of its identity are appended."""
    pre: Recipe = field(default_factory=recipe.pretraining)
    """The first stage; a billion images long unless images or epochs are given."""
    fine: Recipe = field(default_factory=recipe.finetuning)
    """The second stage; 30 epochs long unless images or epochs are given."""
    classes: int | None = None
    """Number of classes; by default one more than the greatest label in the manifests of the shards."""
    size: int | None = None
    """Width and height of the model's input in pixels; by default that of the zoo's card, or 32."""
    crop_pct: float | None = None
    """Share of the resized short side that validation sees, as in timm; by default that of the zoo's card, or 1."""
    interpolation: Interpolation | None = None
    """`bicubic` or `bilinear`; by default that of the zoo's card, or bilinear."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and the augmentation."""
    workers: int = 1
    """Training processes, each with its own GPU if the cluster has GPUs.
    Batches do not depend on their number."""
    streams: int = 8
    """Maximum number of parts of the data that are read in parallel.
    If there are at least as many workers, each of them reads one part only."""
    gpus: int = 0
    """GPUs to use on an autoscaling cluster, including those that are already running."""
    precision: Precision = "fp32"
    """Arithmetic: fp32, tf32, or bf16 and fp16 under autocast."""
    channels_last: bool = False
    """Use the channels-last memory layout, which is faster for most models on GPUs."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: GPUs if the cluster has any."""
    validate_every: int | None = None
    """Images between validations; by default a tenth of the stage. Each validation writes a checkpoint."""
    log_every: int | None = None
    """Images between points of the training curve; by default a 200th of the stage."""
    save_seconds: float = 300.0
    """Seconds between checkpoints."""
    keep: int = 2
    """Number of newest checkpoints to keep, besides the one with the best validation."""
    max_bad_rate: float = 0.01
    """Stop when more than this share of the images, and at least ten, are bad: the data is wrong. 1 never stops."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(ReadingOptions, TrainingOptions):
    """The options of a training."""


def check(config: TrainingConfig) -> None:
    """Check the options that no later step would catch before work begins.

    Raises:
        ValueError: naming the option, its value and what it may be.
    """
    for option, value in (("--workers", config.workers), ("--streams", config.streams), ("--keep", config.keep)):
        if value < 1:
            raise ValueError(f"{option} {value}: expected a positive number")
    for option, images in (("--validate-every", config.validate_every), ("--log-every", config.log_every)):
        if images is not None and images < 1:
            raise ValueError(f"{option} {images}: expected a positive number of images")
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"--seed {config.seed}: expected a number from 0 to 2**63 - 1")
    require_precision(config.precision, config.device)
    if not config.pretrain or not config.val:
        raise ValueError("--pretrain and --val are required; --help describes their values")
    options.check_device(config.device, config.gpus)
    options.check_bad_rate(config.max_bad_rate)
    recipe.check(config.pre, "--pre", config.workers)
    recipe.check(config.fine, "--fine", config.workers)
