"""From options to a plan: which models, with which settings, on which data.

The options are read here and nowhere below: `PlannedRun` is what the later steps work on. Only `--tuned` imports Ray
and torch (with `--device auto` it also asks the cluster for its devices), and `--checkpoint` torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import zoo
from jobs.console.progress import Listing
from jobs.steps.options import WalkConfig, all_cards, signs
from jobs.steps.reading_options import reading
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, plan_cells
from pipelines.data import evaluation_sets, read
from pipelines.data.dataset import find_dataset, require_reading
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.models import mirror
from pipelines.records import PLAIN, Precision, Settings
from pipelines.walk.options import RunOptions
from zoo.weights.wanted import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModels:
    """The models of --models: all `cards`, the `columns` of those that can run, and why others are `unusable`, by name.

    `evaluation_set` is what the data is a copy of, if the options say so; its classes are part of the columns.
    `weights_steps` is what was done to find the weights in --checkpoint.
    """

    cards: tuple[zoo.Card, ...]
    evaluation_set: EvaluationSet | None
    columns: tuple[Column, ...]
    unusable: Mapping[str, str]
    weights_steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """What a job is to compute, resolved once from its options.

    `sources` and `limit` are --data and --limit, for the record of the run; `plan` is the cells that the job needs, and
    which of them are missing.
    """

    store: str
    sources: tuple[str, ...]
    limit: int | None
    models: ResolvedModels
    plan: Plan

    @property
    def unusable(self) -> Mapping[str, str]:
        """Why models cannot be used, by name."""
        return self.models.unusable

    def excluding(self, unusable: Mapping[str, str]) -> "PlannedRun":
        """The same run, with further models that cannot be used."""
        return replace(self, models=replace(self.models, unusable={**self.models.unusable, **unusable}))

    def refreshed(self) -> "PlannedRun":
        """The same run, planned again from the cells that are committed now."""
        return replace(self, plan=plan_cells(self.store, self.plan.dataset, self.plan.columns))

    def plan_of(self, columns: Sequence[Column]) -> Plan:
        """The plan of some of the columns."""
        return plan_cells(self.store, self.plan.dataset, columns)

    def usable_columns(self) -> list[Column]:
        """The columns none of whose models is unusable."""
        return [
            column
            for column in self.plan.columns
            if not any(member.card.name in self.unusable for member in column.members)
        ]


def plan_run(config: WalkConfig) -> PlannedRun:
    """Plan the cells of all models of `config` on its data.

    Raises:
        ValueError: if models, data or settings cannot be used, or no model is left.
        FileNotFoundError: if the weights of the only model, or the data, do not exist.
    """
    models = resolve_models(config)
    return planned_run(config, models, models.columns)


def planned_run(config: WalkConfig, models: ResolvedModels, columns: Sequence[Column]) -> PlannedRun:
    """Plan the cells of `columns`, made of `models`, on the data of `config`.

    Raises:
        ValueError: if the data cannot be used.
        FileNotFoundError: if it does not exist.
    """
    signed, how = signs(config.sign_request), reading(config)
    sources = config.data if signed else tuple(map(storage.anonymous, config.data))
    dataset = find_dataset(sources, watch=Listing(), signed=signed, reading=how)
    require_reading(how, [dataset])
    plan = plan_cells(config.store, read.limited(dataset, config.limit), columns, watch=Listing())
    return PlannedRun(store=config.store, sources=sources, limit=config.limit, models=models, plan=plan)


def run_options(config: WalkConfig) -> RunOptions:
    """The part of `config` that says how a plan is carried out."""
    return RunOptions(device=config.device, gpus=config.gpus, max_bad_rate=config.max_bad_rate)


def resolve_models(config: WalkConfig) -> ResolvedModels:
    """Find the cards of --models, their weights and their settings.

    Raises:
        ValueError: if models or settings cannot be used, or no model is left.
        FileNotFoundError: if the weights of the only model do not exist.
    """
    cards = zoo.select(config.models or "", all_cards(config.cards, config.store))
    evaluation_set = evaluation_sets.named(config.dataset, config.datasets) if config.dataset else None
    subset = evaluation_set.subset if evaluation_set else None
    if config.weights_key and not config.checkpoint:
        raise ValueError(f"--weights-key {config.weights_key}: goes with --checkpoint")
    if config.checkpoint and len(cards) > 1:
        names = ", ".join(card.name for card in cards)
        raise ValueError(f"--checkpoint {config.checkpoint}: goes with one model, not with {len(cards)} ({names})")
    file, steps = None, ()
    if config.checkpoint:  # whether it fits is found out before Ray starts
        file, steps = mirror.check_checkpoint(next(iter(cards)), config.checkpoint, config.weights_key)
    columns: list[Column] = []
    unusable: dict[str, str] = {}
    for card, precision in product(cards, config.precision):
        try:
            columns += _columns_of(card, precision, config, subset, file)
        except (ValueError, FileNotFoundError) as error:
            if len(cards) == len(config.precision) == 1:
                raise
            name = card.name if len(config.precision) == 1 else f"{card.name} ({precision})"
            unusable[name] = str(error).removeprefix(f"{card.name}: ")
    if not columns:
        raise ValueError(f"no model has weights; {'; '.join(f'{name}: {reason}' for name, reason in unusable.items())}")
    return ResolvedModels(
        cards=cards,
        evaluation_set=evaluation_set,
        columns=tuple(columns),
        unusable=unusable,
        weights_steps=steps,
    )


def _columns_of(
    card: zoo.Card, precision: Precision, config: WalkConfig, subset: tuple[int, ...] | None, given: Wanted | None
) -> list[Column]:
    if subset and max(subset) >= card.num_classes:
        raise ValueError(
            f"{card.name}: has {card.num_classes} classes, but class {max(subset)} belongs to the evaluation set"
        )
    command = _tune_command(card, precision, config)
    file = given or mirror.find(config.store, card)
    how = Settings(precision=precision, batch_size=config.batch_size or PLAIN.batch_size)
    if config.tuned:
        from pipelines.models import tune

        how = tune.require(config.store, card, precision, tune.device(config.device, config.gpus), command)
    return [Column(card=card, file=file, settings=how, decoder=decoder, subset=subset) for decoder in config.decoder]


def _tune_command(card: zoo.Card, precision: Precision, config: WalkConfig) -> str:
    device = f" --device {config.device}" if config.device != "auto" else ""
    cards = f" --cards {' '.join(config.cards)}" if config.cards else ""
    return f"python -m jobs.tune --models {card.name} --store {config.store} --precision {precision}{device}{cards}"
