"""A teacher and its pool: the options that pseudo-labelling and selection have in common.

Several models are one teacher, an ensemble whose probabilities are averaged. It needs all its members: without one of
them it would be another teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.steps import options, planning
from jobs.steps.planning import PlannedRun
from pipelines.cells.column import Column
from pipelines.records import Decoder, Precision


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(options.WalkConfig):
    """The options of a job whose teacher labels a pool."""

    models: str | None = None
    """The teacher: one model, or several (commas, patterns) whose probabilities are averaged; see `python -m zoo`."""
    precision: tuple[Precision] = ("fp32",)
    """Arithmetic of the models. Part of a cell's identity."""
    decoder: tuple[Decoder] = ("exact",)
    """Image decoder: `exact` is Pillow; `fast` deviates by a few grey levels. Part of a cell's identity."""
    classes_per_image: int = 10
    """P: how many classes are kept for each image, the most probable ones; an image can be chosen for these only.
    Part of a cell's identity."""


def check(config: TeacherConfig) -> None:
    """Check the options of a teacher and its pool.

    Raises:
        ValueError: naming the option, its value and what it may be.
    """
    options.check(config)
    options.require_models_and_data(config)
    if config.classes_per_image < 1:
        raise ValueError(f"--classes-per-image {config.classes_per_image}: expected a positive number")


def plan_run(config: TeacherConfig) -> PlannedRun:
    """Plan the cells of the teacher's one column on the pool.

    Raises:
        ValueError: if a model, the settings or the pool cannot be used.
        FileNotFoundError: if the pool or the weights do not exist.
    """
    models = planning.resolve_models(config)
    if models.unusable:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in models.unusable.items())
        raise ValueError(f"a teacher of several models needs all of them: {reasons}")
    return planning.planned_run(config, models, [_ensemble(models.columns, config.classes_per_image)])


def _ensemble(members: Sequence[Column], classes_kept: int) -> Column:
    """One column of all `members`, with so many classes kept for each image."""
    if len({member.card.num_classes for member in members}) > 1:
        classes = ", ".join(f"{member.card.name} {member.card.num_classes}" for member in members)
        raise ValueError(f"models with different numbers of classes cannot be averaged: {classes}")
    first, *others = (replace(member, max_classes_kept=classes_kept) for member in members)
    return replace(first, ensemble=tuple(others))
