"""Audit committed cells: intact, worth recomputing, or unreachable.

Nothing is removed here. A cell is not garbage while the record of some run names data to which, as the data is now, the
cell belongs.
"""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import cast

from pipelines import storage
from pipelines.cells import runs
from pipelines.cells.cell import REMEDY, cell_identity, cell_uri, file_name, verify_cell
from pipelines.cells.column import SCHEMA_VERSION, Column, column_name
from pipelines.cells.plan import Plan
from pipelines.cells.runs import Run
from pipelines.data.dataset import find_dataset
from pipelines.pixels.sandbox import QUARANTINED
from pipelines.records import Shard
from pipelines.storage import Leftover
from pipelines.storage.layout import Folder

_READ_AT_ONCE = 8
_DAY = 86_400.0
_CELL_PATH = re.compile(
    r"(?P<dataset>[^/]+)/(?P<column>[^/]+(-[0-9a-f]{8}){2})/(?P<cell>(?P<shard>.+)-[0-9a-f]{8}\.parquet)", re.DOTALL
)
_ShardsByName = dict[str, set[Shard]]
"""The shards of a dataset. Where runs name several locations for it, several shards may have one name."""


@dataclass(frozen=True, slots=True)
class CellFinding:
    """What the audit of one cell found.

    Attributes:
        uri: of the cell.
        fault: what is wrong with it; None where it is intact.
        unread: whether it could not be read, which says nothing about its content.
        quarantined: rows whose image killed, hung or flooded its decoder; the machine may have been at fault.
    """

    uri: str
    fault: str | None
    unread: bool = False
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Garbage:
    """What no plan can reach.

    Attributes:
        cells: reasons by URI.
        leftovers: unfinished writes.
        kept: what was not judged, and why.
    """

    cells: dict[str, str]
    leftovers: tuple[Leftover, ...]
    kept: tuple[str, ...]


def inspect(store: str, plan: Plan) -> Iterator[CellFinding]:
    """Read every committed cell of `plan` and compare it with what it should be."""

    def check(target: tuple[Column, Shard]) -> CellFinding:
        uri = cell_uri(store, plan.dataset, *target)
        try:
            errors = cast(list[str], verify_cell(store, plan.dataset, *target)["error"].drop_null().to_pylist())
        except ValueError as error:
            return CellFinding(uri, str(error).removeprefix(f"{uri} ").removesuffix(f"; {REMEDY}"))
        except OSError as error:  # removed meanwhile, or the store is unavailable: the others can still be checked
            return CellFinding(uri, str(error).removeprefix(f"{uri}: "), unread=True)
        return CellFinding(uri, None, quarantined=sum(error.startswith(QUARANTINED) for error in errors))

    targets = _committed(plan)
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        while batch := list(islice(targets, 8 * _READ_AT_ONCE)):  # in batches, so that a million do not wait in memory
            yield from pool.map(check, batch)


def _committed(plan: Plan) -> Iterator[tuple[Column, Shard]]:
    for column, missing in zip(plan.columns, map(set, plan.missing), strict=True):
        yield from ((column, shard) for i, shard in enumerate(plan.dataset.shards) if i not in missing)


def garbage(store: str, write_seconds: float = _DAY) -> Garbage:
    """What no plan of this version, on data that runs have named, can reach.

    All cells of a dataset are kept if no run has named it, if its data cannot be listed now, or if a run on it begins
    during the audit.

    Args:
        store: where to look.
        write_seconds: an unfinished write that began longer ago is abandoned.

    Raises:
        ValueError: if a run's record is damaged.
    """
    before = runs.recorded(store)
    known, kept = _list_datasets(before)
    unreachable = list(_unreachable(store, known, kept))
    for name in sorted(_names_of_new(before, runs.recorded(store))):
        kept[name] = f"a run on {name!r} has begun just now"
    cells = {uri: reason for name, uri, reason in unreachable if name not in kept}
    # A store may be a whole bucket or somebody's home: unfinished writes beside these folders belong to others.
    folders = [storage.join(store, folder) for folder in Folder]
    leftovers = [found for folder in folders for found in storage.leftovers(folder, write_seconds)]
    return Garbage(cells, tuple(leftovers), tuple(kept.values()))


def _names_of_new(before: Iterable[tuple[str, Run]], after: Iterable[tuple[str, Run]]) -> set[str]:
    """The datasets of runs that began between two listings."""

    def starts(found: Iterable[tuple[str, Run]]) -> set[tuple[str, str, int, float]]:
        return {(name, run.host, run.pid, run.started) for name, run in found}

    return {name for name, *_ in starts(after) - starts(before)}


def _unreachable(store: str, known: dict[str, _ShardsByName], kept: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Dataset, URI and reason of each cell that no plan can reach; adds to `kept` what cannot be judged."""
    folder = storage.join(store, Folder.CELLS)
    versions: dict[str, int | None] = {}
    for entry in storage.list_objects(folder):
        path = _CELL_PATH.fullmatch(entry.uri.removeprefix(folder).lstrip("/"))
        if path is None:
            _keep_unknown(entry.uri, kept)
            continue
        name, column = path["dataset"], f"{path['dataset']}/{path['column']}"
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
        elif not _is_reachable(entry.uri, path, known[name]):
            yield name, entry.uri, "its shard is gone or has changed"


def _keep_unknown(uri: str, kept: dict[str, str]) -> None:
    folder, _, file = uri.rpartition("/")
    if file.endswith(".parquet"):  # others are not cells at all
        kept.setdefault(folder, f"what is in {folder} is not named as cells are")


def _list_datasets(found: Iterable[tuple[str, Run]]) -> tuple[dict[str, _ShardsByName], dict[str, str]]:
    """The shards of each dataset that runs have named, as they lie now; and why datasets cannot be listed."""
    known: dict[str, _ShardsByName] = {}
    kept: dict[str, str] = {}
    for name, sources in sorted({(name, run.sources) for name, run in found}):
        try:
            dataset = find_dataset(sources)
        except (OSError, ValueError) as error:
            kept[name] = f"the data of {name!r} cannot be listed now: {error}"
            continue
        for shard in dataset.shards:
            known.setdefault(name, {}).setdefault(shard.name, set()).add(shard)
    return {name: shards for name, shards in known.items() if name not in kept}, kept


def _version(uri: str) -> int | None:
    """None where the cell is damaged, which --verify reports, or gone; then the next cell of its column is read."""
    try:
        return cell_identity(uri)["schema"]
    except (ValueError, FileNotFoundError):
        return None


def _is_reachable(uri: str, path: re.Match[str], known: _ShardsByName) -> bool:
    same = known.get(path["shard"], ())
    if any(file_name(shard) == path["cell"] for shard in same):
        return True
    try:
        stored = cell_identity(uri)
    except (ValueError, FileNotFoundError):  # only an intact cell is ever called garbage
        return True
    # The path alone is ambiguous: a shard's name may have slashes, and a model's once could.
    column = column_name(stored["model"], stored["weights"], stored["plan"])
    if (column, stored["shard"]["name"]) != (path["column"], path["shard"]):
        return True
    chosen = {"limit": stored["shard"]["limit"], "reading": stored["shard"].get("reading", "")}
    return any(file_name(replace(shard, **chosen)) == path["cell"] for shard in same)
