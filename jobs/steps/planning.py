"""From options to a plan: which models, run how, on which data.

Owns the options that every job has whose models walk over data, their checks and the columns that follow. Refuses to
start Ray or to load a model: a plan is made before that.
"""

from dataclasses import dataclass
from itertools import product

import zoo
from jobs.console import cli
from jobs.console.progress import Listing, count, say
from jobs.steps.cards import all_cards
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, plan_cells
from pipelines.data import evaluation_sets, read
from pipelines.data.dataset import find_dataset
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.models import mirror
from pipelines.records import PLAIN, Dataset, Decoder, Precision, Settings
from pipelines.walk import estimate


@dataclass(frozen=True, kw_only=True)
class WalkConfig(cli.Job):
    """The options of a job whose models walk over data."""

    models: str | None = None
    """Names or patterns, comma-separated: `efficientnet_lite0`, `'efficientnet*'`, `all` (see `python -m zoo`)."""
    data: tuple[str, ...] = ()
    """Shards (.tar, .parquet): folders, globs, brace patterns `{00000..00049}.tar`, or .txt files listing such."""
    store: str = "output"
    """Folder or s3:// URI for cells, reports and mirrored weights."""
    checkpoint: str | None = None
    """Weights of the one model of --models, a path or URI, in place of those that its card names."""
    cards: tuple[str, ...] = ()
    """Model-index files (path or URI) with cards of your own models; the README shows one."""
    precision: tuple[Precision, ...] = ("fp32",)
    """Arithmetic of the models, part of a cell's identity; several (`fp32 bf16`) are run in one pass."""
    decoder: tuple[Decoder, ...] = ("exact",)
    """How images are decoded, part of a cell's identity: `exact` is Pillow, as published numbers were measured; `fast`
    deviates by a few grey levels. Both may be given."""
    batch_size: int | None = None
    """Images that a model sees at once, 32 where not given. Part of a cell's identity, since it moves probabilities in
    the 7th digit."""
    tuned: bool = False
    """Run each model with the settings that `jobs.tune` found fastest here; they are part of a cell's identity too."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: GPUs where the cluster has any."""
    gpus: int = 0
    """GPUs that this job may have of a cluster that grows by itself, those included that are there. As many are asked
    for as have ten minutes of work each."""
    dataset: str | None = None
    """What --data is a copy of: imagenet-val, imagenet-v2, imagenet-sketch, imagenet-a, imagenet-r, or one of
    --datasets. Claims are judged on what is said to be the set that they are of, and classes are masked where a set has
    but some."""
    datasets: tuple[str, ...] = ()
    """YAML files (path or URI) that define evaluation sets of your own; the README shows one."""
    limit: int | None = None
    """Only the first N images."""
    max_bad_rate: float = 0.01
    """Stop when more than this share of the images, and ten at least, are bad: the data is wrong; 1 never stops."""


def check(config: WalkConfig) -> None:
    """Refuse what no plan can be made of.

    Raises:
        ValueError: naming the option and what it may be.
    """
    if config.batch_size is not None and config.batch_size < 1:
        raise ValueError(f"--batch-size {config.batch_size}: expected a positive number")
    if config.batch_size is not None and config.tuned:
        raise ValueError(f"--batch-size {config.batch_size}: --tuned chooses it; leave one out")
    check_device(config.device, config.gpus)
    if not 0 <= config.max_bad_rate <= 1:
        raise ValueError(f"--max-bad-rate {config.max_bad_rate}: expected a share from 0 to 1")
    if config.device == "cpu" and "tf32" in config.precision:
        raise ValueError("--precision tf32: that is GPUs' own; on a CPU choose from fp32, bf16, fp16")
    if config.datasets and not config.dataset:
        raise ValueError(f"--datasets {' '.join(config.datasets)}: which of them is --data? Give --dataset too")
    for option, values in (("--precision", config.precision), ("--decoder", config.decoder)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{option} {' '.join(values)}: give one or several, each once")


def check_device(device: str, gpus: int) -> None:
    """Refuse a device that is none, and GPUs that cannot be.

    Raises:
        ValueError: naming the option and what it may be.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"--device {device}: choose from auto, cpu, cuda")
    if gpus < 0 or (gpus and device == "cpu"):
        raise ValueError(f"--gpus {gpus}: expected a number, 0 for none, and no --device cpu")


def evaluation_set(config: WalkConfig) -> EvaluationSet | None:
    """The evaluation set that the data is a copy of, if that is said.

    Raises:
        ValueError: if there is no such set.
    """
    return evaluation_sets.named(config.dataset, config.datasets) if config.dataset else None


def chosen_cards(config: WalkConfig) -> tuple[zoo.Card, ...]:
    """The cards of --models.

    Raises:
        ValueError: if one part of the pattern selects none.
    """
    return zoo.select(config.models or "", all_cards(config.cards, config.store))


def plan(config: WalkConfig) -> tuple[dict[str, str], Plan]:
    """Why models cannot be run, by name, and the plan of the others.

    Raises:
        ValueError: if models, data or settings cannot be used, or no model is left.
        FileNotFoundError: if the one model's weights, or the data, are not there.
    """
    usable, unusable = columns(config)
    return unusable, plan_cells(config.store, dataset(config), usable, watch=Listing())


def dataset(config: WalkConfig) -> Dataset:
    """What --data and --limit name.

    Raises:
        ValueError: if it cannot be used.
        FileNotFoundError: if it is not there.
    """
    found = find_dataset(config.data, watch=Listing())
    return found if config.limit is None else read.limited(found, config.limit)


def columns(config: WalkConfig) -> tuple[list[Column], dict[str, str]]:
    """The columns of each model whose weights are known, and why others have none, by name.

    Raises:
        ValueError: if models or settings cannot be used, or no model is left.
        FileNotFoundError: if the one model's weights are not there.
    """
    known, cards = evaluation_set(config), chosen_cards(config)
    subset = known.subset if known else None
    if config.checkpoint and len(cards) > 1:
        names = ", ".join(card.name for card in cards)
        raise ValueError(f"--checkpoint {config.checkpoint}: goes with one model, not with {len(cards)} ({names})")
    usable, unusable = [], {}
    for card, precision in product(cards, config.precision):
        try:
            usable += _columns_of(card, precision, config, subset)
        except (ValueError, FileNotFoundError) as error:
            if len(cards) == len(config.precision) == 1:
                raise
            name = card.name if len(config.precision) == 1 else f"{card.name} ({precision})"
            unusable[name] = str(error).removeprefix(f"{card.name}: ")
    if not usable:
        raise ValueError(f"no model has weights; {'; '.join(f'{name}: {reason}' for name, reason in unusable.items())}")
    return usable, unusable


def _columns_of(
    card: zoo.Card, precision: Precision, config: WalkConfig, subset: tuple[int, ...] | None
) -> list[Column]:
    if subset and max(subset) >= card.num_classes:
        raise ValueError(f"{card.name}: has {card.num_classes} classes, and class {max(subset)} counts")
    file = mirror.find(config.store, card, config.checkpoint)
    how = _settings(card, precision, config)
    return [Column(card=card, file=file, settings=how, decoder=decoder, subset=subset) for decoder in config.decoder]


def _settings(card: zoo.Card, precision: Precision, config: WalkConfig) -> Settings:
    if not config.tuned:
        return Settings(precision=precision, batch_size=config.batch_size or PLAIN.batch_size)
    from pipelines.models import tune

    device = tune.device(config.device, config.gpus)
    found = tune.find(config.store, card, precision, device)
    if found is None:
        where = f" --device {config.device}" if config.device != "auto" else ""
        cards = f" --cards {' '.join(config.cards)}" if config.cards else ""
        command = (
            f"python -m jobs.tune --models {card.name} --store {config.store} --precision {precision}{where}{cards}"
        )
        raise ValueError(f"{card.name}: --tuned: its {precision} has not been tuned on {device} yet; `{command}` does")
    return found


def say_plan(plan: Plan, config: WalkConfig) -> None:
    """Say what there is to do, and what it will cost."""
    dataset = plan.dataset
    rows = [shard.limit or shard.rows for shard in dataset.shards]
    images = count(sum(filter(None, rows)), "image") if all(rows) else "images not counted yet"
    size = sum(shard.size for shard in dataset.shards) / 1e6
    say(f"dataset  {dataset.name}-{dataset.digest}: {count(len(rows), 'shard')}, {images}, {size:,.1f} MB")
    for column, missing in zip(plan.columns, plan.missing, strict=True):
        done = count(len(rows) - len(missing), "cell")
        say(f"model    {column.name}: {done} committed, {len(missing)} to do ({how(column)})")
    if plan.pending:
        say(f"cost     {cost(estimate.of_plan(plan), 'cuda' if config.gpus else config.device)}")
    say(f"store    {storage.absolute(config.store)}")


def cost(work: estimate.Estimate, device: str) -> str:
    """What work will take, on the device or on either where that is not decided, and where the reckoning stands."""
    decoding = _hours(work.decode_seconds)
    ways = [
        f"{_hours(seconds)} of a {what} and {decoding} of a CPU to decode, ${work.usd(one):,.2f}"
        for one, what, seconds in (("cuda", "GPU", work.gpu_seconds), ("cpu", "CPU", work.cpu_seconds))
        if device in {"auto", one} and seconds is not None
    ]
    told = f"about {'; or '.join(ways)}" if ways else "not known of this precision on a CPU"
    return f"{told} (reckoned with pipelines/walk/prices.yaml)"


def _hours(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:,.1f} minutes"


def how(column: Column) -> str:
    """A column's settings in a few words."""
    return f"{column.settings}, {column.decoder} decoder"


def label(column: Column, plan: Plan) -> str:
    """The model's name, and how it is run where `plan` has it more than once."""
    several = [other.model for other in plan.columns].count(column.model) > 1
    return f"{column.model} ({column.mode})" if several else column.model
