"""What `--diff A B` compares: from a store, a setting or a column's name to pairs of columns of one dataset.

Owns how sides are named and which columns belong together. Refuses to compare nothing: where no two columns match, the
error says what each side has.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from pipelines.cells.inventory import Holding, StoredColumn

_SETTINGS = ("precision", "decoder", "batch_size", "channels_last", "fold", "compile")


@dataclass(frozen=True, slots=True)
class Side:
    """One side as the user named it, and its columns; `exact` where it is one column, which goes with any model's."""

    name: str
    columns: tuple[StoredColumn, ...]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Two columns on one dataset, and in what their settings differ: `{"settings.precision": ("fp32", "bf16")}`."""

    a: StoredColumn
    b: StoredColumn
    differs: Mapping[str, tuple[object, object]]


def is_within_store(name: str, holdings: Sequence[Holding]) -> bool:
    """Whether a side is a part of the store at hand, a setting or a column, rather than another store."""
    return _setting(name) is not None or any(name == column.name for held in holdings for column in held.columns)


def select_side(name: str, holdings: Sequence[Holding]) -> Side:
    """The columns that `name` selects of `holdings`: those of a setting (`precision=bf16`), of a name, or all.

    Raises:
        ValueError: if it is a setting that no column has.
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
        raise ValueError(f"--diff {name}: no cells of it; {key} here is {' or '.join(known) or 'of nothing'}")
    return Side(name, chosen)


def pair_columns(a: Side, b: Side) -> list[Pair]:
    """The columns of `a` and `b` in pairs that differ least: of one dataset and, unless both are named, of one model.

    Where a side is a setting, the two of a pair agree in all that tables show but in that.

    Raises:
        ValueError: if no two belong together, or one is on both sides.
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
    # The closest first: of two decoders' columns, each goes with its own kind before either goes with the other's.
    for pair in sorted(fitting, key=lambda each: (len(each.differs), each.a.dataset.name, each.a.name, each.b.name)):
        if not any(pair.a is taken.a or pair.b is taken.b for taken in found):
            found.append(pair)
    if not found:
        raise ValueError(f"nothing to compare: {_told(a)}; {_told(b)}")
    return sorted(found, key=lambda each: (each.a.dataset.name, each.a.name))


def differences(a: StoredColumn, b: StoredColumn) -> dict[str, tuple[object, object]]:
    """What of model, weights, plan and dataset differs, as `name: (of a, of b)`."""
    said_a, said_b = _facts(a), _facts(b)
    names = sorted(said_a.keys() | said_b.keys())
    return {name: (said_a.get(name), said_b.get(name)) for name in names if said_a.get(name) != said_b.get(name)}


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
    """Whether they agree in precision and decoder, but for the settings `keys`; always where no setting is named."""
    return not keys or all(_value(a, key) == _value(b, key) for key in {"precision", "decoder"} - keys)


def _overlap(a: StoredColumn, b: StoredColumn) -> bool:
    """A dataset that lies in two places has other digests there; its shards have the same names."""
    return not {shard.name for shard in a.committed}.isdisjoint(shard.name for shard in b.committed)


def _facts(column: StoredColumn) -> dict[str, object]:
    named = {"model": column.model, "weights": column.weights, "dataset": column.dataset.digest}
    return named | dict(_flat(column.identity.items()))


def _flat(items: Iterable[tuple[str, object]], before: str = "") -> Iterable[tuple[str, object]]:
    for name, value in items:
        if isinstance(value, Mapping):
            yield from _flat(value.items(), f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _told(side: Side) -> str:
    has = sorted({f"{column.model} {column.mode} on {column.dataset.name}" for column in side.columns})
    return f"{side.name} has {', '.join(has[:6]) or 'no cells'}{', ...' if len(has) > 6 else ''}"
