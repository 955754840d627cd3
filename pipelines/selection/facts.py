"""The facts of a selection: whose cells were ranked, by which rule, and how many images and cells there were."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from pipelines import storage
from pipelines.cells.plan import Plan
from pipelines.selection.candidates import PoolCounts, RankBy, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherModel:
    """One model of a teacher; `weights` is a SHA-256."""

    model: str
    weights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """The column of cells that the selection was made from: its model or ensemble, its name, its number of classes."""

    model: str
    column: str
    classes: int
    members: tuple[TeacherModel, ...]
    plan: Mapping[str, object]
    """The settings that the cells depend on (`cells.column.Column.identity`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFacts:
    """The rule (see `candidates.Rule`), with counts for the sets that it excludes; `digest` is of the whole rule."""

    k: int
    score: RankBy
    floor: float | None
    dedup: bool
    excluded_shards: tuple[str, ...]
    """Patterns of names."""
    excluded_keys: int
    excluded_images: int
    digest: str

    def to_json(self) -> dict[str, object]:
        """The rule as files store it, with lists for tuples."""
        return {**asdict(self), "excluded_shards": list(self.excluded_shards)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCounts:
    """Cells of the pool: of those `needed`, `missing` are not committed; `excluded` are of shards the rule excludes."""

    needed: int
    missing: int
    excluded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionFacts:
    """What a selection depends on and what it was made from; `store` is where the cells are."""

    identity: str
    """Eight hex digits that change with whatever the selection depends on."""
    store: str
    teacher: Teacher
    rule: RuleFacts
    cells: CellCounts
    images: PoolCounts

    def to_json(self) -> dict[str, object]:
        """The facts as files store them."""
        return {**asdict(self), "rule": self.rule.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> "SelectionFacts":
        """The facts that `to_json` wrote.

        Raises:
            KeyError: if a key is missing.
            TypeError: if a part is of another type.
        """
        teacher, rule = (cast(Mapping[str, Any], content[name]) for name in ("teacher", "rule"))
        return cls(
            identity=cast(str, content["identity"]),
            store=cast(str, content["store"]),
            teacher=Teacher(
                model=teacher["model"],
                column=teacher["column"],
                classes=teacher["classes"],
                members=tuple(TeacherModel(**member) for member in teacher["members"]),
                plan=teacher["plan"],
            ),
            rule=RuleFacts(
                k=rule["k"],
                score=rule["score"],
                floor=rule["floor"],
                dedup=rule["dedup"],
                excluded_shards=tuple(rule["excluded_shards"]),
                excluded_keys=rule["excluded_keys"],
                excluded_images=rule["excluded_images"],
                digest=rule["digest"],
            ),
            cells=CellCounts(**cast(Mapping[str, int], content["cells"])),
            images=PoolCounts(**cast(Mapping[str, int], content["images"])),
        )


def selection_facts(store: str, plan: Plan, rule: Rule, identity: str, images: PoolCounts) -> SelectionFacts:
    """The facts of a selection from the one column of `plan`.

    Args:
        store: where the cells are.
        plan: the column and its missing cells.
        rule: what was selected.
        identity: see `distributed.selection_id`.
        images: what the cells have.
    """
    (column,) = plan.columns
    return SelectionFacts(
        identity=identity,
        store=storage.absolute(store),
        teacher=Teacher(
            model=column.model,
            column=column.name,
            classes=column.card.num_classes,
            members=tuple(TeacherModel(model=member.card.name, weights=member.weights) for member in column.members),
            plan=column.identity,
        ),
        rule=RuleFacts(
            k=rule.k,
            score=rule.score,
            floor=rule.floor,
            dedup=rule.dedup,
            excluded_shards=rule.shards,
            excluded_keys=len(rule.keys),
            excluded_images=len(rule.images),
            digest=rule.digest,
        ),
        cells=CellCounts(
            needed=plan.needed,
            missing=plan.pending,
            excluded=sum(not rule.takes(shard) for shard in plan.dataset.shards),
        ),
        images=images,
    )
