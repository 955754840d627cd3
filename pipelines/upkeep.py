"""Looking after committed cells: are they what they should be, which are worth another attempt, which serve nobody.

Owns these judgements. Refuses to remove anything by itself, and to call a cell garbage as long as a run's record names
data, as it lies now, that the cell is of.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from pipelines import cells, runs, shards, storage
from pipelines.cells import Column, Plan
from pipelines.records import QUARANTINED, Shard
from pipelines.storage import Leftover

_READ_AT_ONCE = 8
_DAY = 86_400.0
"""What a process began to write this long ago, no living one still writes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A cell, by URI, and what is to be said of it; `fault` is None where it is in order."""

    uri: str
    fault: str | None
    quarantined: int = 0
    """Rows whose picture killed, hung or flooded its decoder: that may have been the machine's fault."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What no plan can reach: cells by URI with the reason, and unfinished writes; `kept` says what was not judged."""

    cells: dict[str, str]
    leftovers: tuple[Leftover, ...]
    kept: tuple[str, ...]


def inspect(store: str, plan: Plan) -> Iterator[Finding]:
    """Every committed cell of `plan`, read and held against what it should be."""

    def one(target: tuple[Column, Shard]) -> Finding:
        uri = cells.uri(store, plan.dataset, *target)
        try:
            errors = cells.verify(store, plan.dataset, *target)["error"]
        except ValueError as error:
            return Finding(uri, str(error).removeprefix(f"{uri} "))
        return Finding(uri, None, pc.sum(pc.starts_with(errors, QUARANTINED)).as_py() or 0)

    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        yield from pool.map(one, _committed(plan))


def _committed(plan: Plan) -> list[tuple[Column, Shard]]:
    targets = []
    for column, missing in zip(plan.columns, map(set, plan.missing), strict=True):
        targets += [(column, shard) for i, shard in enumerate(plan.dataset.shards) if i not in missing]
    return targets


def garbage(store: str) -> Garbage:
    """What lies in the store and no plan of this version on data that runs have named can reach.

    Of a dataset that no run has named, or whose data cannot be listed now, everything is kept.

    Raises:
        ValueError: if a run's record is damaged.
    """
    known, kept = _known(store)
    folder = storage.join(store, "cells")
    dead: dict[str, str] = {}
    columns: dict[str, bool] = {}
    for entry in storage.list_objects(folder):
        name, _, rest = entry.uri.removeprefix(folder).lstrip("/").partition("/")
        column, _, cell = rest.partition("/")
        if known.get(name) is None:
            kept.setdefault(name, f"no run names the data of {name!r}")
            continue
        place = f"{name}/{column}"
        if place not in columns:
            columns[place] = _is_of_this_version(entry.uri)
        if not columns[place]:
            dead[entry.uri] = "another version's cell"
        elif not _is_reachable(entry.uri, cell, known[name]):
            dead[entry.uri] = "its shard is gone or has changed"
    return Garbage(dead, tuple(storage.leftovers(store, _DAY)), tuple(kept.values()))


def _known(store: str) -> tuple[dict[str, dict[str, Shard]], dict[str, str]]:
    """The shards of each dataset that runs have named, as they lie now, by the name of their cells; and what is not."""
    found: dict[str, dict[str, Shard]] = {}
    kept: dict[str, str] = {}
    for name, sources in sorted({(name, run.sources) for name, run in runs.every(store)}):
        try:
            dataset = shards.find(sources)
        except (OSError, ValueError) as error:
            kept[name] = f"the data of {name!r} cannot be listed now: {error}"
            continue
        found.setdefault(name, {}).update({_cell_name(shard): shard for shard in dataset.shards})
    return {name: cells for name, cells in found.items() if name not in kept}, kept


def _cell_name(shard: Shard) -> str:
    return f"{shard.name}-{shard.digest}.parquet"


def _is_of_this_version(uri: str) -> bool:
    try:
        return cells.about(uri)["schema"] == cells.SCHEMA_VERSION
    except ValueError:
        return True  # damaged: --verify's business


def _is_reachable(uri: str, cell: str, known: dict[str, Shard]) -> bool:
    if cell in known:
        return True
    try:
        about = cells.about(uri)["shard"]
    except ValueError:
        return True
    same = (shard for shard in known.values() if shard.name == about["name"])
    return any(_cell_name(replace(shard, limit=about["limit"])) == cell for shard in same)
