"""Looking after committed cells: are they what they should be, which are worth another attempt, which serve nobody.

Owns these judgements. Refuses to remove anything by itself, and to call a cell garbage as long as a run's record names
data, as it lies now, that the cell is of.
"""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from pipelines import storage
from pipelines.cells import runs
from pipelines.cells.cell import REMEDY, cell_identity, cell_uri, verify_cell
from pipelines.cells.column import SCHEMA_VERSION, Column
from pipelines.cells.plan import Plan
from pipelines.cells.runs import Run
from pipelines.data.dataset import find_dataset
from pipelines.pixels.sandbox import QUARANTINED
from pipelines.records import Shard, short_digest
from pipelines.storage import Leftover

_READ_AT_ONCE = 8
_DAY = 86_400.0
"""What a process began to write this long ago, no living one still writes."""
_OURS = ("cells", "datasets", "leaderboard", "reports", "runs", "tuning", "weights")
"""Where in a store jobs write. It may be a whole bucket or somebody's home: beside these, unfinished writes are others'
own, and what MLflow uploads is MLflow's."""
_PLACE = re.compile(
    r"(?P<dataset>[^/]+)/(?P<column>[^/]+(-[0-9a-f]{8}){2})/(?P<cell>(?P<shard>.+)-[0-9a-f]{8}\.parquet)", re.DOTALL
)
_Known = dict[str, set[Shard]]
"""The shards of a dataset by name; where runs named several places for it, there may be several of one name."""


@dataclass(frozen=True, slots=True)
class CellProblem:
    """A cell, by URI, and what is to be said of it; `fault` is None where it is in order."""

    uri: str
    fault: str | None
    unread: bool = False
    """Whether the fault is that it could not be read, which says nothing of what is in it."""
    quarantined: int = 0
    """Rows whose picture killed, hung or flooded its decoder: that may have been the machine's fault."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What no plan can reach: cells by URI with the reason, and unfinished writes; `kept` says what was not judged."""

    cells: dict[str, str]
    leftovers: tuple[Leftover, ...]
    kept: tuple[str, ...]


def inspect(store: str, plan: Plan) -> Iterator[CellProblem]:
    """Every committed cell of `plan`, read and held against what it should be."""

    def one(target: tuple[Column, Shard]) -> CellProblem:
        uri = cell_uri(store, plan.dataset, *target)
        try:
            errors = verify_cell(store, plan.dataset, *target)["error"].drop_null().to_pylist()
        except ValueError as error:
            return CellProblem(uri, str(error).removeprefix(f"{uri} ").removesuffix(f"; {REMEDY}"))
        except OSError as error:  # removed meanwhile, or the store was away: the others can still be looked at
            return CellProblem(uri, str(error).removeprefix(f"{uri}: "), unread=True)
        return CellProblem(uri, None, quarantined=sum(error.startswith(QUARANTINED) for error in errors))

    targets = _committed(plan)
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        while some := list(islice(targets, 8 * _READ_AT_ONCE)):  # all at once, a million would wait in memory
            yield from pool.map(one, some)


def _committed(plan: Plan) -> Iterator[tuple[Column, Shard]]:
    for column, missing in zip(plan.columns, map(set, plan.missing), strict=True):
        yield from ((column, shard) for i, shard in enumerate(plan.dataset.shards) if i not in missing)


def garbage(store: str) -> Garbage:
    """What lies in the store and no plan of this version on data that runs have named can reach.

    Of a dataset that no run has named, whose data cannot be listed now, or on which a run begins while we look,
    everything is kept.

    Raises:
        ValueError: if a run's record is damaged.
    """
    before = runs.recorded(store)
    known, kept = _known(before)
    dead = list(_dead(store, known, kept))
    for name in sorted(_names_of_new(before, runs.recorded(store))):
        kept[name] = f"a run on {name!r} has begun just now"
    doomed = {uri: reason for name, uri, reason in dead if name not in kept}
    leftovers = [found for name in _OURS for found in storage.leftovers(storage.join(store, name), _DAY)]
    return Garbage(doomed, tuple(leftovers), tuple(kept.values()))


def _names_of_new(before: Iterable[tuple[str, Run]], after: Iterable[tuple[str, Run]]) -> set[str]:
    """The datasets of runs that began in between."""

    def starts(found: Iterable[tuple[str, Run]]) -> set[tuple[str, str, int, float]]:
        return {(name, run.host, run.pid, run.started) for name, run in found}

    return {name for name, *_ in starts(after) - starts(before)}


def _dead(store: str, known: dict[str, _Known], kept: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Dataset, URI and reason of each cell that no plan can reach; adds to `kept` the datasets that are not known."""
    folder = storage.join(store, "cells")
    versions: dict[str, int | None] = {}
    for entry in storage.list_objects(folder):
        place = _PLACE.fullmatch(entry.uri.removeprefix(folder).lstrip("/"))
        if place is None:
            _keep_unknown(entry.uri, kept)
            continue
        name, column = place["dataset"], f"{place['dataset']}/{place['column']}"
        if name not in known:
            kept.setdefault(name, f"no run names the data of {name!r}")
            continue
        if versions.get(column) is None:
            versions[column] = _version(entry.uri)
        version = versions[column] or SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            kept.setdefault(column, f"the cells of {column} are a newer version's")
        elif version < SCHEMA_VERSION:
            yield name, entry.uri, "an older version's cell"
        elif not _is_reachable(entry.uri, place, known[name]):
            yield name, entry.uri, "its shard is gone or has changed"


def _keep_unknown(uri: str, kept: dict[str, str]) -> None:
    folder, _, file = uri.rpartition("/")
    if file.endswith(".parquet"):  # others are not cells at all
        kept.setdefault(folder, f"what is in {folder} is not named as cells are")


def _known(found: Iterable[tuple[str, Run]]) -> tuple[dict[str, _Known], dict[str, str]]:
    """The shards of each dataset that runs have named, as they lie now; and why those of others are not known."""
    known: dict[str, _Known] = {}
    kept: dict[str, str] = {}
    for name, sources in sorted({(name, run.sources) for name, run in found}):
        try:
            dataset = find_dataset(sources)
        except (OSError, ValueError) as error:
            kept[name] = f"the data of {name!r} cannot be listed now: {error}"
            continue
        for shard in dataset.shards:
            known.setdefault(name, {}).setdefault(shard.name, set()).add(shard)
    return {name: there for name, there in known.items() if name not in kept}, kept


def _cell_name(shard: Shard) -> str:
    return f"{shard.name}-{shard.digest}.parquet"


def _version(uri: str) -> int | None:
    """None where the cell is damaged, which is --verify's business, or gone: the next one of its column will say."""
    try:
        return cell_identity(uri)["schema"]
    except (ValueError, FileNotFoundError):
        return None


def _is_reachable(uri: str, place: re.Match[str], known: _Known) -> bool:
    same = known.get(place["shard"], ())
    if any(_cell_name(shard) == place["cell"] for shard in same):
        return True
    try:
        said = cell_identity(uri)
    except (ValueError, FileNotFoundError):  # nothing that is not a sound cell of ours is called garbage
        return True
    # Its path alone can be read in two ways: a shard's name may have slashes, and a model's once could.
    if (_column_name(said), said["shard"]["name"]) != (place["column"], place["shard"]):
        return True
    return any(_cell_name(replace(shard, limit=said["shard"]["limit"])) == place["cell"] for shard in same)


def _column_name(said: dict) -> str:
    return f"{said['model']}-{said['weights'][:8]}-{short_digest(said['plan'])}"
