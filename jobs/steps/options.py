"""The options of jobs whose models run over a dataset, and their checks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import zoo
from jobs.console import cli
from jobs.steps.reading_options import ReadingOptions
from pipelines import storage
from pipelines.models import members
from pipelines.models.precision import require_precision
from pipelines.records import Decoder, Precision
from zoo.cards.reader import read_cards

ModeT = TypeVar("ModeT", bound=str)
MaintenanceMode = Literal["fill", "dry_run", "status", "verify", "retry_failed"]
READ_ONLY = frozenset({"dry_run", "status", "verify"})
"""Modes that write nothing into the store."""
_NO_SIGN_REQUEST = "AWS_NO_SIGN_REQUEST"
"""The variable of GDAL and others for what the AWS command line calls --no-sign-request."""
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})
_PROBE = ".probe"
"""The name of an object that nothing ever has."""


@dataclass(frozen=True, kw_only=True)
class WalkOptions(cli.Job):
    """What runs over which data, and how."""

    models: str | None = None
    """Model names or patterns, comma-separated: `resnest50d`, `'resnest*'`, `all` (see `python -m zoo`)."""
    data: tuple[str, ...] = ()
    """Shards (.tar, .tar.gz, .tar.zst, .parquet): folders, globs, brace patterns `{00000..00049}.tar`, or .txt files
    that list them."""
    sign_request: bool = True
    """`--no-sign-request` reads --data without credentials, as public buckets allow; AWS_NO_SIGN_REQUEST=1 does too.
    The store needs credentials in any case."""
    store: str = "output"
    """Folder or s3:// URI for cells, reports and mirrored weights."""
    checkpoint: str | None = None
    """Weights (path or URI) for the one model of --models, instead of those that its card names.
    Checkpoints of training scripts are read; docs/zoo.md says how."""
    weights_key: str | None = None
    """The set of weights in --checkpoint, where it holds several: `state_dict`, `state_dict_ema`."""
    cards: tuple[str, ...] = ()
    """Model-index files (path or URI) with cards of your own models; docs/zoo.md shows one."""
    precision: tuple[Precision, ...] = ("fp32",)
    """Arithmetic of the models; several (`fp32 bf16`) run in one pass.
    Part of a cell's identity: each precision has its own cells."""
    decoder: tuple[Decoder, ...] = ("exact",)
    """Image decoder: `exact` is Pillow, as in published evaluations; `fast` deviates by a few grey levels.
    Both may be given. Part of a cell's identity."""
    batch_size: int | None = None
    """Images per forward pass; 32 if not given.
    Part of a cell's identity, since it changes probabilities in the 7th digit."""
    tuned: bool = False
    """Run each model with the fastest settings that `jobs.tune` found on this hardware.
    They are part of a cell's identity."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: GPUs if the cluster has any."""
    gpus: int = 0
    """GPUs to use on an autoscaling cluster, including those that are already running.
    Requests up to this many GPUs, each only if it would have ten minutes of work."""
    dataset: str | None = None
    """The evaluation set that --data is a copy of: one from --datasets, or one of
    imagenet-val, imagenet-v2, imagenet-sketch, imagenet-a, imagenet-r.
    A claim is judged only on the evaluation set it was published for.
    A set with fewer classes than the model masks the other classes."""
    datasets: tuple[str, ...] = ()
    """YAML files (path or URI) that define your own evaluation sets; docs/claims.md shows one."""
    limit: int | None = None
    """Use only the first N images."""
    max_bad_rate: float = 0.01
    """Stop when more than this share of the images, and at least ten, are bad: the data is wrong. 1 never stops."""


@dataclass(frozen=True, kw_only=True)
class WalkConfig(ReadingOptions, WalkOptions):
    """The options of a job whose models run over a dataset."""


@dataclass(frozen=True, kw_only=True)
class MaintenanceOptions:
    """The modes of every job that fills cells."""

    status: bool = False
    """Compute nothing: show how many cells are committed, in flight and missing, what failed, and the last ten runs."""
    verify: bool = False
    """Compute nothing: read every committed cell again; check its seal and that it belongs to its shard."""
    retry_failed: bool = False
    """Recompute what may have been a machine's fault: cells that are damaged or have quarantined rows."""


def check(config: WalkConfig) -> None:
    """Check the options that no later step would catch before work begins.

    Raises:
        ValueError: naming the option, its value and what it may be.
    """
    if config.batch_size is not None and config.batch_size < 1:
        raise ValueError(f"--batch-size {config.batch_size}: expected a positive number")
    if config.batch_size is not None and config.tuned:
        raise ValueError(f"--batch-size {config.batch_size}: --tuned chooses the batch size; leave one of them out")
    check_device(config.device, config.gpus)
    check_bad_rate(config.max_bad_rate)
    for precision in config.precision:
        require_precision(precision, config.device)
    if config.datasets and not config.dataset:
        raise ValueError(
            f"--datasets {' '.join(config.datasets)}: --dataset must name the one that --data is a copy of"
        )
    for option, values in (("--precision", config.precision), ("--decoder", config.decoder)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{option} {' '.join(values)}: give one or several, each once")


def check_device(device: str, gpus: int) -> None:
    """Check --device and --gpus.

    Raises:
        ValueError: naming the option, its value and what it may be.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"--device {device}: choose from auto, cpu, cuda")
    if gpus < 0 or (gpus and device == "cpu"):
        raise ValueError(f"--gpus {gpus}: expected a number of GPUs, 0 for none, and not with --device cpu")


def check_bad_rate(max_bad_rate: float) -> None:
    """Check --max-bad-rate.

    Raises:
        ValueError: if it is not a share.
    """
    if not 0 <= max_bad_rate <= 1:
        raise ValueError(f"--max-bad-rate {max_bad_rate}: expected a share from 0 to 1")


def signs(sign_request: bool) -> bool:
    """Whether data on S3 is read with credentials: not with --no-sign-request, nor with AWS_NO_SIGN_REQUEST set."""
    said = os.environ.get(_NO_SIGN_REQUEST, "").strip().lower()
    if said not in _YES | _NO:
        raise ValueError(f"{_NO_SIGN_REQUEST}={said}: expected 1, true, yes or on, or 0, false, no or off")
    return sign_request and said in _NO


def require_models_and_data(config: WalkConfig) -> None:
    """Raise ValueError if --models or --data is not given."""
    for option, given in (("--models", config.models), ("--data", config.data)):
        if not given:
            raise ValueError(f"{option} is required; --help describes its values")


def chosen_mode(config: object, modes: Sequence[ModeT], default: ModeT) -> ModeT:
    """The mode whose flag is set in `config`.

    Args:
        config: has a boolean attribute for each of `modes`.
        modes: the modes; they exclude each other.
        default: the mode if no flag is set.

    Raises:
        ValueError: if more than one flag is set.
    """
    chosen = [mode for mode in modes if getattr(config, mode)]
    if len(chosen) > 1:
        flags = " and ".join(f"--{mode.replace('_', '-')}" for mode in chosen)
        raise ValueError(f"{flags}: choose one")
    return chosen[0] if chosen else default


def require_writable_folder(folder: str) -> None:
    """Raise now, rather than after hours of work, if nothing can be written in a local `folder`.

    Raises:
        OSError: naming the path and the reason. A remote folder is not checked here; `storage.probe` writes to it.
    """
    storage.require_writable(storage.join(folder, _PROBE))


def all_cards(paths: Sequence[str], store: str | None = None) -> list[zoo.Card]:
    """The cards in a user's model-index files, and those of the models trained into `store`.

    A card from a file takes precedence over a trained model of the same name.

    Raises:
        ValueError: if a file is not text or has no model-index.
        FileNotFoundError: if a file does not exist.
    """
    given = [card for path in paths for card in read_cards(storage.read(path), path)]
    names = {card.name for card in given}
    return [card for card in members.cards(store) if card.name not in names] + given if store else given
