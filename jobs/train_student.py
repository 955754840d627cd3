r"""Trains a model on shards: a student on a selection and then on labels, or a teacher or baseline on labels alone.

    python -m jobs.train_student --model resnest50d --pretrain s3://bucket/students/16k --finetune s3://bucket/train \
        --val s3://bucket/val --store s3://bucket/out
    python -m jobs.train_student --model resnest50d --pretrain s3://bucket/train --pre.epochs 90 \
        --val s3://bucket/val --store s3://bucket/out --name teacher

The recipe is that of Yalniz et al. 2019; `--pre.OPTION` and `--fine.OPTION` change it for a stage. The same command
again goes on from the last checkpoint, at the very next batch; a finished training is published again, and nothing
else. Leaves a member of the zoo: weights in STORE/weights, a card in STORE/zoo, by which `--models NAME` finds it; its
curve in STORE/training/NAME and in MLflow. Exit codes: 0 done, 2 bad arguments or bad data, 3 a store is away or Ray
Train gave up, 130 and 143 stopped by Ctrl-C and SIGTERM, after a checkpoint.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.box import SIMPLE_HEAD
from rich.table import Table

import zoo
from jobs.console import cli
from jobs.console.progress import Listing, Meter, count, say
from jobs.steps import fill, follow_training, planning
from pipelines import storage
from pipelines.data.dataset import find_dataset
from pipelines.records import Dataset, Precision
from pipelines.selection import lineage
from pipelines.storage.layout import Folder
from pipelines.training import recipe, specification
from pipelines.training.recipe import Recipe
from pipelines.training.specification import Pace, Stage, StageName, Training
from pipelines.walk import estimate
from zoo.architectures.table import find_architecture
from zoo.cards import Card
from zoo.preprocessing import Interpolation, Preprocessing

_NOTHING = ".probe"
"""A name in the store that nothing has."""
_PAPERS_IMAGES, _PAPERS_EPOCHS = 1_000_000_000, 30
_SMALL = Preprocessing(size=32, crop_pct=1.0, interpolation="bilinear")
"""For architectures of which the zoo has no card: those for small pictures."""


@dataclass(frozen=True, kw_only=True)
class TrainStudentConfig(cli.Job):
    """Train a model in one or two stages, and make it a member of the store's zoo.

    The same command again continues. Exit codes: 0 done, 2 bad arguments or bad data, 3 a store is away or Ray Train
    gave up, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """

    model: str
    """The architecture: a name of `python -m zoo`, or cifar_resnet8 or cifar_resnet20 for small pictures."""
    pretrain: tuple[str, ...]
    """Shards (as --data elsewhere) of the first stage: a materialised selection, or labelled ones for a teacher or
    baseline."""
    finetune: tuple[str, ...] = ()
    """Labelled shards of the second stage, if there is to be one."""
    val: tuple[str, ...]
    """Labelled shards on which the model is validated, with the metrics of `jobs.evaluate`."""
    store: str = "output"
    """Folder or s3:// URI for checkpoints, curves, weights and cards."""
    name: str | None = None
    """What the model will be called, --model where not given; eight digits of what it depends on are added."""
    pre: Recipe = field(default_factory=recipe.pretraining)
    """The first stage; a billion images long, unless images or epochs are given."""
    fine: Recipe = field(default_factory=recipe.finetuning)
    """The second stage; 30 epochs long, unless images or epochs are given."""
    classes: int | None = None
    """Classes of the model; where not given, one more than the greatest label in the manifests of the shards."""
    size: int | None = None
    """Pixels a side of the model's input; where not given, that of the zoo's card, or 32."""
    crop_pct: float | None = None
    """Share of the resized short side that is seen in validation, as timm's; where not given, the card's, or 1."""
    interpolation: Interpolation | None = None
    """`bicubic` or `bilinear`; where not given, the card's, or bilinear."""
    seed: int = 0
    """Of weights, order and augmentation."""
    workers: int = 1
    """Processes that train, each with a GPU of its own where there are any; batches are the same for any number."""
    streams: int = 8
    """Most parts of the data that are read side by side; from as many workers on, each reads its own and no more."""
    gpus: int = 0
    """GPUs that the workers may have of a cluster that grows by itself, those included that are there."""
    precision: Precision = "fp32"
    """Arithmetic: fp32, tf32, or bf16 and fp16 under autocast."""
    channels_last: bool = False
    """Layout of memory, faster for most models on GPUs."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: GPUs where the cluster has any."""
    validate_every: int | None = None
    """Images from one validation to the next; a tenth of the stage where not given. Each writes a checkpoint."""
    log_every: int | None = None
    """Images from one point of the curve to the next; a 200th of the stage where not given."""
    save_seconds: float = 300.0
    """Seconds from one checkpoint to the next."""
    keep: int = 2
    """Checkpoints that are kept, the newest ones; and the one that validated best."""
    max_bad_rate: float = 0.01
    """Stop when more than this share of the images, and ten at least, are bad: the data is wrong; 1 never stops."""
    dry_run: bool = False
    """Say what would be trained, and stop."""
    tracking_uri: str | None = None
    """MLflow server. Where not given, the file mlflow.db in the store, in the working folder where the store is s3://;
    `none` for no tracking."""


def run(config: TrainStudentConfig) -> int:
    """Train, or go on, and publish.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: if options or data cannot be used, or a loss is no number.
        FileNotFoundError: if data is not there.
    """
    _check(config)
    parts = {"pretrain": _found(config.pretrain), "finetune": _found(config.finetune), "val": _found(config.val)}
    training, identity = _training(config, parts)
    cli.stdout.print(_table(training))
    if all(map(all, (stage.rows for stage in training.stages))):
        say(f"cost     {planning.cost(_estimate(training), 'cuda' if config.gpus else config.device)}")
    say(f"model    {training.card.name}: {training.card.architecture}, {training.card.num_classes:,} classes")
    if config.dry_run:
        return cli.DONE
    storage.require_writable(storage.join(config.store, _NOTHING))
    say(f"probed   {storage.probe(config.store)}")
    follower = follow_training.Follower(config.store, config.tracking_uri, training, identity)
    if (content := follower.final_content()) is None:
        _train(training, config, follower)
        content = follower.final_content()
        if content is None:
            raise ValueError(f"--store {config.store}: the training's last checkpoint is not there or damaged")
    follower.publish(content)
    return cli.DONE


def _check(config: TrainStudentConfig) -> None:
    for option, value in (("--workers", config.workers), ("--streams", config.streams), ("--keep", config.keep)):
        if value < 1:
            raise ValueError(f"{option} {value}: expected a positive number")
    for option, images in (("--validate-every", config.validate_every), ("--log-every", config.log_every)):
        if images is not None and images < 1:
            raise ValueError(f"{option} {images}: expected a positive number of images")
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"--seed {config.seed}: expected a number from 0 to 2**63 - 1")
    if config.device == "cpu" and config.precision == "tf32":
        raise ValueError("--precision tf32: that is GPUs' own; on a CPU choose from fp32, bf16, fp16")
    if not config.pretrain or not config.val:
        raise ValueError("--pretrain and --val are needed: on which shards? --help says how they are named")
    planning.check_device(config.device, config.gpus)
    if not 0 <= config.max_bad_rate <= 1:
        raise ValueError(f"--max-bad-rate {config.max_bad_rate}: expected a share from 0 to 1")
    recipe.check(config.pre, "--pre", config.workers)
    recipe.check(config.fine, "--fine", config.workers)


def _found(sources: Sequence[str]) -> Dataset | None:
    return find_dataset(sources, watch=Listing()) if sources else None


def _training(config: TrainStudentConfig, parts: dict[str, Dataset | None]) -> tuple[Training, str]:
    """What is to be trained, and its identity; the rows of shards without a manifest are not known yet."""
    known = [dataset for dataset in parts.values() if dataset]
    card = _card(config, _classes(config, known))
    recipes: dict[StageName, Recipe] = {
        "pretrain": recipe.with_length(config.pre, images=_PAPERS_IMAGES),
        "finetune": recipe.with_length(config.fine, epochs=_PAPERS_EPOCHS),
    }
    planned = tuple(
        Stage(name=name, recipe=how, dataset=dataset, rows=_rows(dataset), streams=config.streams)
        for name, how in recipes.items()
        if (dataset := parts[name])
    )
    identity = specification.training_id(card, planned, config.seed, config.precision, config.channels_last)
    card = replace(card, name=f"{config.name or config.model}-{identity}")
    validation = parts["val"]
    assert validation
    pace = Pace(
        log_every=config.log_every,
        validate_every=config.validate_every,
        save_seconds=config.save_seconds,
        keep=config.keep,
        max_bad_rate=config.max_bad_rate,
    )
    training = Training(
        home=storage.join(storage.absolute(config.store), Folder.TRAINING, card.name),
        card=card,
        stages=planned,
        validation=validation,
        seed=config.seed,
        precision=config.precision,
        channels_last=config.channels_last,
        device=config.device,
        workers=config.workers,
        gpus=config.gpus,
        pace=pace,
    )
    return training, identity


def _classes(config: TrainStudentConfig, parts: Sequence[Dataset]) -> int:
    if config.classes is not None and config.classes < 2:
        raise ValueError(f"--classes {config.classes}: expected two at least")
    greatest = [dataset.labels[1] for dataset in parts if dataset.labels]
    if config.classes is None and len(greatest) < len(parts):
        raise ValueError("--classes is needed: a manifest that says the greatest label is not beside all shards")
    classes = config.classes or max(greatest) + 1
    for dataset in parts:
        if dataset.labels is None and all(_rows(dataset)):
            raise ValueError(f"{dataset.source}: no sample has a label; a pool is labelled by jobs.pseudo_label first")
        if dataset.labels and (dataset.labels[0] < 0 or dataset.labels[1] >= classes):
            least, most = dataset.labels
            raise ValueError(f"{dataset.source}: labels from {least} to {most}, expected 0 to {classes - 1}")
    return classes


def _card(config: TrainStudentConfig, classes: int) -> Card:
    find_architecture(config.model)  # an unknown one is answered with those that are near
    seen = next((card.preprocessing for card in zoo.select() if card.name == config.model), _SMALL)
    chosen = replace(
        seen,
        size=seen.size if config.size is None else config.size,
        crop_pct=seen.crop_pct if config.crop_pct is None else config.crop_pct,
        interpolation=config.interpolation or seen.interpolation,
    )
    name = config.name or config.model
    return Card(
        name=name,
        architecture=config.model,
        preprocessing=chosen,
        weights=None,
        claims=(),
        paper="",
        num_classes=classes,
    )


def _rows(dataset: Dataset) -> tuple[int, ...]:
    return tuple(shard.rows or 0 for shard in dataset.shards)


def _train(training: Training, config: TrainStudentConfig, follower: "follow_training.Follower") -> None:
    # Ray and torch take seconds to load; --help and a finished training need neither.
    from pipelines.training import driver as on_cluster

    device = fill.require_device(config.device, config.gpus, {"menagerie_run": training.home})
    if device == "cpu" and config.precision == "tf32":
        raise ValueError("--precision tf32: that is GPUs' own, and the cluster has none; choose fp32, bf16 or fp16")
    training = replace(training, device=device, stages=_counted(training))
    with follower.following(training):
        on_cluster.train(training, follower.show, say)


def _counted(training: Training) -> tuple[Stage, ...]:
    """The stages with the rows of all shards, of which those without a manifest are read."""
    from pipelines.training import row_counts

    unknown = sum(not rows for stage in training.stages for rows in stage.rows)
    if not unknown:
        return training.stages
    say(f"counting the samples of {count(unknown, 'shard')} without a manifest, once")
    with Meter("shards", unknown) as meter:
        return row_counts.count_rows(training, meter.update)


def _estimate(training: Training) -> estimate.Estimate:
    seen = sum(stage.steps * stage.recipe.batch for stage in training.stages)
    return estimate.of_training(training.card, training.precision, seen)


def _table(training: Training) -> Table:
    """What will be done, stage by stage."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("stage")
    table.add_column("data", overflow="fold")
    for heading in ("samples", "images", "steps", "batch", "learning rate"):
        table.add_column(heading, justify="right")
    for stage in training.stages:
        origin = lineage.origin(stage.dataset)
        data = stage.dataset.name + (f" (selection of {origin.teacher})" if origin else "")
        known = all(stage.rows)
        steps = stage.steps if known or stage.recipe.images else None
        cells = [None if not known else sum(stage.rows), steps and steps * stage.recipe.batch, steps]
        told = ["?" if cell is None else f"{cell:,}" for cell in cells]
        table.add_row(stage.name, data, *told, f"{stage.recipe.batch:,}", _rates(stage))
    return table


def _rates(stage: Stage) -> str:
    how = stage.recipe
    return f"{how.peak_lr:.3g} x {how.drop_factor:g}, {how.drops} times"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(TrainStudentConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
