"""Committed cells -> the selection, by Ray tasks over groups of cells.

Owns the groups, the parts that a selection is made of, and that what is done is not done again. A part is the best of
one group of cells, so the best of all parts are the best of all; a task is told the least scores that are still of use,
so most rows are dropped where they are read. Refuses to rank by itself (`topk`), and to pass over a damaged cell.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.cells.cell import cell_uri, read_cell
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, cell_versions
from pipelines.cluster import tasks
from pipelines.data import read
from pipelines.records import Dataset, Shard, short_digest
from pipelines.selection import candidates
from pipelines.selection.candidates import PoolCounts, Rule
from pipelines.selection.topk import Candidates, TopK

_GROUP = 32
"""Cells a task: some seconds of work, and few enough parts in a pool of 100,000 shards."""
_NAMES = [field.name for field in fields(Candidates)]
_ABOUT = b"menagerie.part"


@dataclass(frozen=True, slots=True, eq=False)
class GroupBest:
    """The chosen, by class and, of the whole, by rank; what the cells have, and the rows of each by its position."""

    best: Candidates
    seen: PoolCounts
    rows: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Job:
    """What every task of a selection needs to know."""

    store: str
    dataset: Dataset
    column: Column
    rule: Rule
    parts: str

    def fold(self) -> TopK:
        return TopK(self.column.card.num_classes, self.rule.k, distinct=self.rule.dedup)


def selection_id(store: str, plan: Plan, rule: Rule) -> str:
    """Eight hex digits that change with whatever a selection from the one column of `plan` depends on.

    That is also which cells are there, and that they are those of now: a cell that failed may have been computed again.
    """
    ((column,), (missing,), dataset) = plan.columns, plan.missing, plan.dataset
    versions = cell_versions(store, dataset, column)
    for position in missing:  # one that was committed since is no part of it
        versions[position] = None
    return short_digest([dataset.name, dataset.digest, column.name, rule.digest, versions])


def select(store: str, plan: Plan, rule: Rule, parts: str, watch: Callable[[int], None]) -> GroupBest:
    """The selection from the one column of `plan`, by the cluster's tasks.

    Args:
        store: where the cells are.
        plan: of one column; from shards that have no cell nothing is chosen.
        rule: what is selected.
        parts: a folder's URI for what is done so far, of this selection alone.
        watch: told how many of `groups` are done, after each.

    Raises:
        ValueError: naming the cell, if one is damaged.
    """
    (column,) = plan.columns
    job = _Job(store, plan.dataset, column, rule, parts)
    parted = groups(plan, rule)
    best, seen, rows = job.fold(), PoolCounts(), {}
    for done, part in enumerate(_parts(job, parted, best), 1):
        best.add(part.best)
        seen += part.seen
        rows |= part.rows
        watch(done)
    return GroupBest(best.best(), seen, rows)


def groups(plan: Plan, rule: Rule) -> list[tuple[int, ...]]:
    """Positions of the shards that are selected from, so many a task."""
    shards, missing = enumerate(plan.dataset.shards), set(*plan.missing)
    taken = [position for position, shard in shards if position not in missing and rule.takes(shard)]
    return [tuple(taken[start : start + _GROUP]) for start in range(0, len(taken), _GROUP)]


def _parts(job: _Job, groups: Sequence[tuple[int, ...]], best: TopK) -> Iterator[GroupBest]:
    """Each group's part, as they get ready: those of an earlier run first, then those of tasks."""
    there = {entry.uri for entry in storage.list_objects(job.parts)}
    pending = []
    for number, group in enumerate(groups):
        part = _part(_uri(job, number)) if _uri(job, number) in there else None
        if part is None:
            pending.append((number, group))
        else:
            yield part
    known = tasks.broadcast(job)
    calls = ((None, (known, number, group, best.least)) for number, group in pending)
    yield from (part for _, part in tasks.run(_fold_group, calls))


def _fold_group(job: _Job, number: int, group: Sequence[int], least: np.ndarray) -> GroupBest:
    """The best of the cells of one group, of what is at least as good as `least`; written down before it counts."""
    fold = job.fold()
    fold.least = least.copy()
    seen, counts = PoolCounts(), {}
    for position in group:
        shard = job.dataset.shards[position]
        location = cell_uri(job.store, job.dataset, job.column, shard)
        rows = read_cell(location, job.column.classes_kept, job.rule.columns)
        found, seen_there = candidates.of_cell(rows, shard, position, job.rule, fold.least)
        fold.add(found)
        seen += seen_there
        counts[position] = len(rows)
    part = GroupBest(fold.kept(), seen, counts)
    storage.replace(_uri(job, number), _encoded(part))
    return part


def _uri(job: _Job, number: int) -> str:
    return storage.join(job.parts, f"{number:06d}.parquet")


def _encoded(part: GroupBest) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({name: getattr(part.best, name) for name in _NAMES})
    table = table.replace_schema_metadata({_ABOUT: json.dumps([asdict(part.seen), list(part.rows.items())])})
    pq.write_table(
        table, sink, compression="lz4", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )
    return sink.getvalue().to_pybytes()


def _part(location: str) -> GroupBest | None:
    """What an earlier run found; None if it is damaged, so that it is found again."""
    try:
        content = pa.BufferReader(storage.read(location))
        table = pq.read_table(content, page_checksum_verification=True)
        seen, rows = json.loads(table.schema.metadata[_ABOUT])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None
    return GroupBest(Candidates(*(table[name].to_numpy() for name in _NAMES)), PoolCounts(**seen), dict(rows))


def digests(shards: Sequence[Shard], watch: Callable[[int], None]) -> frozenset[int]:
    """The digests of all images in `shards`: what a selection must not have, such as a validation set.

    Raises:
        ValueError: naming the shard, if it cannot be read to its end, or the row of which there is no image.
    """
    found: set[int] = set()
    for done, (_, some) in enumerate(tasks.run(_digests_of, ((None, (shard,)) for shard in shards)), 1):
        found |= some
        watch(done)
    return frozenset(found)


def _digests_of(shard: Shard) -> set[int]:
    found = set()
    try:
        for row, sample in enumerate(read.samples(shard)):
            if sample.image is None:  # left out of this set, it would be left in the selection
                raise read.ShardError(f"row {row}, {sample.key!r}, cannot be told apart: {sample.error}")
            found.add(read.digest_of(sample.image))
    except read.ShardError as error:
        raise ValueError(f"{shard.uri}: {error}") from None
    return found
