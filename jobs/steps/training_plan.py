"""From options to a training: its data, its model and its stages, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.table import Table

import zoo
from jobs.console.progress import Listing, say
from jobs.console.tables import plain_table
from jobs.steps.options import signs
from jobs.steps.plan_summary import cost_line
from jobs.steps.reading_options import reading
from jobs.steps.training_options import TrainingConfig
from pipelines import storage
from pipelines.data.dataset import find_dataset, require_reading, require_same_classes
from pipelines.records import Dataset
from pipelines.selection import lineage
from pipelines.storage.layout import Folder
from pipelines.training import recipe, specification
from pipelines.training.recipe import Recipe
from pipelines.training.specification import Pace, Stage, StageName, Training
from pipelines.walk import estimate
from zoo.architectures.table import find_architecture
from zoo.cards import Card
from zoo.preprocessing import Preprocessing

_PAPER_IMAGES, _PAPER_EPOCHS = 1_000_000_000, 30
"""Lengths of the two stages in Yalniz et al. 2019."""
_SMALL = Preprocessing(size=32, crop_pct=1.0, interpolation="bilinear")
"""For architectures without a card in the zoo: those for small images."""


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """A training and its identity: eight hexadecimal digits of what the trained weights depend on."""

    training: Training
    identity: str


def plan_training(config: TrainingConfig) -> PlannedTraining:
    """Find the data and specify model and stages; shards without a manifest have no row counts yet.

    Raises:
        ValueError: if data, labels or model cannot be used.
        FileNotFoundError: if data does not exist.
    """
    signed, how = signs(config.sign_request), reading(config)
    pretrain, finetune, validation = (
        find_dataset(sources, watch=Listing(), signed=signed, reading=how) if sources else None
        for sources in (config.pretrain, config.finetune, config.val)
    )
    assert pretrain and validation, "checked before"
    datasets = [dataset for dataset in (pretrain, finetune, validation) if dataset]
    require_reading(how, datasets)
    require_same_classes(datasets)
    card = _card(config, _classes(config, datasets))
    stages = _stages(config, {"pretrain": pretrain, "finetune": finetune})
    identity = specification.training_id(card, stages, config.seed, config.precision, config.channels_last)
    card = replace(card, name=f"{card.name}-{identity}")
    training = Training(
        home=storage.join(storage.absolute(config.store), Folder.TRAINING, card.name),
        card=card,
        stages=stages,
        validation=validation,
        seed=config.seed,
        precision=config.precision,
        channels_last=config.channels_last,
        device=config.device,
        workers=config.workers,
        gpus=config.gpus,
        pace=_pace(config),
    )
    return PlannedTraining(training, identity)


def _stages(config: TrainingConfig, datasets: dict[StageName, Dataset | None]) -> tuple[Stage, ...]:
    recipes: dict[StageName, Recipe] = {
        "pretrain": recipe.with_length(config.pre, images=_PAPER_IMAGES),
        "finetune": recipe.with_length(config.fine, epochs=_PAPER_EPOCHS),
    }
    return tuple(
        Stage(name=name, recipe=how, dataset=dataset, rows=_rows(dataset), streams=config.streams)
        for name, how in recipes.items()
        if (dataset := datasets[name])
    )


def _pace(config: TrainingConfig) -> Pace:
    return Pace(
        log_every=config.log_every,
        validate_every=config.validate_every,
        save_seconds=config.save_seconds,
        keep=config.keep,
        max_bad_rate=config.max_bad_rate,
    )


def _classes(config: TrainingConfig, datasets: Sequence[Dataset]) -> int:
    """--classes, or what the manifests say; labels that are known must be below it."""
    if config.classes is not None and config.classes < 2:
        raise ValueError(f"--classes {config.classes}: expected at least two")
    greatest = [dataset.labels[1] for dataset in datasets if dataset.labels]
    if config.classes is None and len(greatest) < len(datasets):
        raise ValueError("--classes is needed: some shards have no manifest that states the greatest label")
    classes = config.classes or max(greatest) + 1
    for dataset in datasets:
        if dataset.labels is None and all(_rows(dataset)):
            raise ValueError(f"{dataset.source}: no sample has a label; `jobs.pseudo_label` labels a pool")
        if dataset.labels and (dataset.labels[0] < 0 or dataset.labels[1] >= classes):
            least, most = dataset.labels
            raise ValueError(f"{dataset.source}: labels from {least} to {most}, expected 0 to {classes - 1}")
    return classes


def _card(config: TrainingConfig, classes: int) -> Card:
    find_architecture(config.model)  # raises with similar names if there is none
    default = next((card.preprocessing for card in zoo.select() if card.name == config.model), _SMALL)
    preprocessing = replace(
        default,
        size=default.size if config.size is None else config.size,
        crop_pct=default.crop_pct if config.crop_pct is None else config.crop_pct,
        interpolation=config.interpolation or default.interpolation,
    )
    return Card(
        name=config.name or config.model,
        architecture=config.model,
        preprocessing=preprocessing,
        weights=None,
        claims=(),
        paper="",
        num_classes=classes,
    )


def _rows(dataset: Dataset) -> tuple[int, ...]:
    return tuple(shard.rows or 0 for shard in dataset.shards)


def say_cost(training: Training) -> None:
    """Print the expected cost, and the model that will be trained."""
    if all(map(all, (stage.rows for stage in training.stages))):
        images = sum(stage.steps * stage.recipe.batch for stage in training.stages)
        work = estimate.of_training(training.card, training.precision, images)
        say(f"cost     {cost_line(work, training.device, training.gpus)}")
    say(f"model    {training.card.name}: {training.card.architecture}, {training.card.num_classes:,} classes")


def stages_table(training: Training) -> Table:
    """One row per stage: data, length, batch and learning rate."""
    numeric = ("samples", "images", "steps", "batch", "learning rate")
    table = plain_table(("stage", "data", *numeric), right=numeric, gap=2)
    for stage in training.stages:
        origin = lineage.origin(stage.dataset)
        data = stage.dataset.name + (f" (selection of {origin.teacher})" if origin else "")
        known = all(stage.rows)
        steps = stage.steps if known or stage.recipe.images else None
        numbers = [sum(stage.rows) if known else None, steps and steps * stage.recipe.batch, steps]
        cells = ["?" if number is None else f"{number:,}" for number in numbers]
        table.add_row(stage.name, data, *cells, f"{stage.recipe.batch:,}", _rate_label(stage.recipe))
    return table


def _rate_label(how: Recipe) -> str:
    return f"{how.peak_lr:.3g} x {how.drop_factor:g}, {how.drops} times"
