"""Teachers and their pool: the options that pseudo-labelling and selection have in common.

Owns that several models are one teacher, an ensemble whose probabilities are averaged. Refuses to leave a member out:
that would be another teacher.
"""

from dataclasses import dataclass, replace

from jobs.console.progress import Listing
from jobs.steps import planning
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, plan_cells
from pipelines.records import Decoder, Precision


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(planning.WalkConfig):
    """The options of a job whose teacher labels a pool."""

    models: str | None = None
    """The teacher: a model's name, or those of several (commas, patterns), whose probabilities are averaged."""
    precision: tuple[Precision, ...] = ("fp32",)
    """Arithmetic of the models, one: `fp32`, `tf32`, `bf16` or `fp16`. Part of a cell's identity."""
    decoder: tuple[Decoder, ...] = ("exact",)
    """How images are decoded, `exact` or `fast`; part of a cell's identity."""
    classes_per_image: int = 10
    """P: how many classes, the most probable ones, are kept of each image and it may be chosen for. Part of a cell's
    identity."""


def check(config: TeacherConfig) -> None:
    """Refuse what is no teacher or no pool.

    Raises:
        ValueError: naming the option and what it may be.
    """
    planning.check(config)
    for option, given in (("--models", config.models), ("--data", config.data)):
        if not given:
            raise ValueError(f"{option} is needed: which {option[2:]}? --help says how they are named")
    for option, values in (("--precision", config.precision), ("--decoder", config.decoder)):
        if len(values) > 1:
            raise ValueError(f"{option} {' '.join(values)}: a teacher has one")
    if config.classes_per_image < 1:
        raise ValueError(f"--classes-per-image {config.classes_per_image}: expected a positive number")


def plan(config: TeacherConfig) -> Plan:
    """The plan of the teacher's one column on the pool.

    Raises:
        ValueError: if the models, their settings or the pool cannot be used.
        FileNotFoundError: if the pool or weights are not there.
    """
    members, unusable = planning.columns(config)
    if unusable:
        raise ValueError(
            "a teacher of several models needs all of them: "
            + "; ".join(f"{name}: {reason}" for name, reason in unusable.items())
        )
    return plan_cells(config.store, planning.dataset(config), [_teacher(members, config)], watch=Listing())


def _teacher(members: list[Column], config: TeacherConfig) -> Column:
    classes = {member.card.num_classes for member in members}
    if len(classes) > 1:
        told = ", ".join(f"{member.card.name} {member.card.num_classes}" for member in members)
        raise ValueError(f"models of different numbers of classes cannot be averaged: {told}")
    kept = [replace(member, max_classes_kept=config.classes_per_image) for member in members]
    return replace(kept[0], ensemble=tuple(kept[1:]))
