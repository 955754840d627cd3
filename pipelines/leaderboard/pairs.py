"""Which columns are compared: those of `--diff A B`, and students with their teachers and baselines.

A side of `--diff` is a store, a setting or the name of a column. Where no two columns match, the error names what each
side has. The comparison itself, image by image, is in `diff`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from pipelines.cells.inventory import Holding, StoredColumn
from pipelines.leaderboard.board import comparable
from pipelines.models import members
from zoo.cards import Card

_SETTINGS = ("precision", "decoder", "batch_size", "channels_last", "fold", "compile")


@dataclass(frozen=True, slots=True)
class Side:
    """One side as the user named it, with its columns.

    `exact` where the name is that of a column, which may be compared with a column of another model.
    """

    name: str
    columns: tuple[StoredColumn, ...]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Two columns on one dataset, and where their settings differ: `{"settings.precision": ("fp32", "bf16")}`."""

    a: StoredColumn
    b: StoredColumn
    differs: Mapping[str, tuple[object, object]]


def is_within_store(name: str, holdings: Sequence[Holding]) -> bool:
    """Whether `name` is a setting, or a column of `holdings`, and so no other store."""
    return _setting(name) is not None or any(name == column.name for held in holdings for column in held.columns)


def select_side(name: str, holdings: Sequence[Holding]) -> Side:
    """The columns of `holdings` that `name` selects: those with a setting (`precision=bf16`), of that name, or all.

    Raises:
        ValueError: if `name` is a setting that no column has.
    """
    columns = tuple(column for held in holdings for column in held.columns)
    named = tuple(column for column in columns if column.name == name)
    setting = _setting(name)
    if named or setting is None:
        return Side(name, named or columns, exact=bool(named))
    key, value = setting
    chosen = tuple(column for column in columns if _value(column, key) == value.lower())
    if not chosen:
        known = sorted({_value(column, key) for column in columns})
        raise ValueError(
            f"--diff {name}: no column has this setting; values of {key} here: {', '.join(known) or 'none'}"
        )
    return Side(name, chosen)


def pair_columns(a: Side, b: Side) -> list[Pair]:
    """The columns of `a` and `b` in pairs that differ least: on one dataset and, unless both are exact, of one model.

    Where a side is a setting, a pair agrees in precision and decoder except for that setting.

    Raises:
        ValueError: if no two columns match, or one is on both sides.
    """
    if both := sorted({one.name for one in a.columns if any(_same(one, other) for other in b.columns)}):
        raise ValueError(
            f"--diff {a.name} {b.name}: {both[0]} is on both sides; name two stores, or two values of a setting"
        )
    keys = {named[0] for named in (_setting(a.name), _setting(b.name)) if named}
    fitting = [
        Pair(column, other, differences(column, other))
        for column in a.columns
        for other in b.columns
        if _fits(column, other, a.exact and b.exact) and _agree(column, other, keys)
    ]
    found: list[Pair] = []
    # The closest first, so that columns of two decoders are paired within each decoder before they are paired across.
    for pair in sorted(fitting, key=lambda each: (len(each.differs), each.a.dataset.name, each.a.name, each.b.name)):
        if not any(pair.a is taken.a or pair.b is taken.b for taken in found):
            found.append(pair)
    if not found:
        raise ValueError(f"nothing to compare: {_side_line(a)}; {_side_line(b)}")
    return sorted(found, key=lambda each: (each.a.dataset.name, each.a.name))


def differences(a: StoredColumn, b: StoredColumn) -> dict[str, tuple[object, object]]:
    """Where model, weights, identity and dataset differ, as `name: (of a, of b)`."""
    of_a, of_b = _facts(a), _facts(b)
    names = sorted(of_a.keys() | of_b.keys())
    return {name: (of_a.get(name), of_b.get(name)) for name in names if of_a.get(name) != of_b.get(name)}


def related_pairs(holdings: Sequence[Holding], cards: Iterable[Card]) -> list[Pair]:
    """Students with their teachers and baselines, on each dataset that both have, with equal settings.

    `a` is the teacher or the baseline, `b` the student. A baseline is a model of the same architecture that was trained
    into the store without a selection.
    """
    known = {card.name: card for card in cards}
    return [
        Pair(other, student, differences(other, student))
        for held in holdings
        for student in comparable(held.columns)
        for other in _relatives(student, comparable(held.columns), known)
    ]


def _relatives(
    student: StoredColumn, columns: Sequence[StoredColumn], known: Mapping[str, Card]
) -> Iterator[StoredColumn]:
    card = known.get(student.model)
    descent = card and members.descent(card)
    if not card or not descent or not descent.selection:
        return
    teachers = (descent.teacher or "").split(",")
    for other in columns:
        runs_alike = (other.settings, other.decoder) == (student.settings, student.decoder)
        if runs_alike and other.model in known:
            other_card = known[other.model]
            if other_card.name in teachers or _is_baseline(other_card, card):
                yield other


def _is_baseline(other: Card, student: Card) -> bool:
    descent = members.descent(other)
    return bool(descent and not descent.selection and other.architecture == student.architecture)


def _setting(name: str) -> tuple[str, str] | None:
    key, equals, value = name.partition("=")
    key = key.strip().replace("-", "_")
    return (key, value.strip()) if equals and key in _SETTINGS else None


def _value(column: StoredColumn, key: str) -> str:
    known = {**asdict(column.settings), "decoder": column.decoder}
    return str(known[key]).lower()


def _same(a: StoredColumn, b: StoredColumn) -> bool:
    return a.store == b.store and a.name == b.name and a.dataset.digest == b.dataset.digest


def _fits(a: StoredColumn, b: StoredColumn, any_model: bool) -> bool:
    return a.dataset.name == b.dataset.name and (any_model or a.model == b.model) and _overlap(a, b)


def _agree(a: StoredColumn, b: StoredColumn, keys: set[str]) -> bool:
    """Whether they agree in precision and decoder, except for the settings `keys`; true where no setting is named."""
    return not keys or all(_value(a, key) == _value(b, key) for key in {"precision", "decoder"} - keys)


def _overlap(a: StoredColumn, b: StoredColumn) -> bool:
    """Whether they share a shard by name: copies of a dataset in two places have different digests."""
    return not {shard.name for shard in a.committed}.isdisjoint(shard.name for shard in b.committed)


def _facts(column: StoredColumn) -> dict[str, object]:
    named = {"model": column.model, "weights": column.weights, "dataset": column.dataset.digest}
    return named | dict(_flat(column.identity.items()))


def _flat(items: Iterable[tuple[str, object]], before: str = "") -> Iterable[tuple[str, object]]:
    for name, value in items:
        if isinstance(value, Mapping):
            yield from _flat(cast(Mapping[str, object], value).items(), f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _side_line(side: Side) -> str:
    has = sorted({f"{column.model} {column.mode} on {column.dataset.name}" for column in side.columns})
    return f"{side.name} has {', '.join(has[:6]) or 'no cells'}{', ...' if len(has) > 6 else ''}"
