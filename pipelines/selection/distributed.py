"""Committed cells -> the selection, by Ray tasks over groups of cells.

A part is the best of one group of cells, so the best of all parts are the best of all. Parts are stored, so that a
resumed selection computes only those that are missing. A task gets the lowest scores that can still be chosen, so most
rows are dropped where they are read. A damaged cell is an error.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
"""Cells in a task: some seconds of work, and few enough parts in a pool of 100,000 shards."""
_CANDIDATE_COLUMNS = [field.name for field in fields(Candidates)]
_COUNTS_KEY = b"menagerie.part"


@dataclass(frozen=True, slots=True, eq=False)
class GroupBest:
    """The best candidates of some cells, and the counts of their images.

    Candidates are in order of class; those that `select` returns also in order of rank.
    `rows` is the number of rows of each cell, by the position of its shard.
    """

    best: Candidates
    seen: PoolCounts
    rows: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Job:
    """What every task of a selection needs; `parts` is the folder of the stored parts."""

    store: str
    dataset: Dataset
    column: Column
    rule: Rule
    parts: str

    def fold(self) -> TopK:
        return TopK(self.column.card.num_classes, self.rule.k, distinct=self.rule.dedup)


def selection_id(store: str, plan: Plan, rule: Rule) -> str:
    """Eight hex digits that change with whatever a selection from the one column of `plan` depends on.

    That includes which cells are there and their versions, since a cell may be computed again.
    """
    ((column,), (missing,), dataset) = plan.columns, plan.missing, plan.dataset
    versions = cell_versions(store, dataset, column)
    for position in missing:  # also of a cell that was committed since: it is no part of the selection
        versions[position] = None
    return short_digest([dataset.name, dataset.digest, column.name, rule.digest, versions])


def select(store: str, plan: Plan, rule: Rule, parts: str, watch: Callable[[int], None]) -> GroupBest:
    """Select from the one column of `plan` on the cluster that is connected.

    Args:
        store: where the cells are.
        plan: one column; shards without a cell are left out.
        rule: what is selected.
        parts: URI of a folder for the parts of this selection alone.
        watch: called with the number of `groups` that are done, after each.

    Raises:
        ValueError: naming the cell, if one is damaged.
    """
    (column,) = plan.columns
    job = _Job(store, plan.dataset, column, rule, parts)
    cell_groups = groups(plan, rule)
    best, seen = job.fold(), PoolCounts()
    rows: dict[int, int] = {}
    for done, part in enumerate(_parts(job, cell_groups, best), 1):
        best.add(part.best)
        seen += part.seen
        rows |= part.rows
        watch(done)
    return GroupBest(best.best(), seen, rows)


def groups(plan: Plan, rule: Rule) -> list[tuple[int, ...]]:
    """Positions of the shards to select from, one tuple for each task."""
    shards = enumerate(plan.dataset.shards)
    missing: set[int] = set(*plan.missing)
    taken = [position for position, shard in shards if position not in missing and rule.takes(shard)]
    return [tuple(taken[start : start + _GROUP]) for start in range(0, len(taken), _GROUP)]


def _parts(job: _Job, groups: Sequence[tuple[int, ...]], best: TopK) -> Iterator[GroupBest]:
    """The part of each group, in order of completion: those of an earlier run first, then those of tasks."""
    names = [f"{number:06d}.parquet" for number in range(len(groups))]

    def calls(pending: Sequence[int]) -> Iterator[tuple[int, tuple[object, ...]]]:
        known = tasks.broadcast(job)
        yield from ((number, (known, groups[number], best.least)) for number in pending)

    yield from (part for _, part in tasks.resumed(_fold_group, job.parts, names, calls, _decoded_part))


def _fold_group(job: _Job, group: Sequence[int], least: np.ndarray) -> bytes:
    """Select from the cells of one group, among scores of at least `least`; returns the content of its note."""
    fold = job.fold()
    fold.least = least.copy()
    seen = PoolCounts()
    counts: dict[int, int] = {}
    for position in group:
        shard = job.dataset.shards[position]
        location = cell_uri(job.store, job.dataset, job.column, shard)
        rows = read_cell(location, job.column.classes_kept, job.rule.columns)
        found, seen_there = candidates.of_cell(rows, shard, position, job.rule, fold.least)
        fold.add(found)
        seen += seen_there
        counts[position] = len(rows)
    return _encoded_part(GroupBest(fold.kept(), seen, counts))


def _encoded_part(part: GroupBest) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({name: getattr(part.best, name) for name in _CANDIDATE_COLUMNS})
    table = table.replace_schema_metadata({_COUNTS_KEY: json.dumps([asdict(part.seen), list(part.rows.items())])})
    pq.write_table(  # pyright: ignore[reportUnknownMemberType]
        table, sink, compression="lz4", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )
    return sink.getvalue().to_pybytes()


def _decoded_part(_: int, content: bytes) -> GroupBest | None:
    """The part in a note; None if the note is damaged and the part has to be computed again."""
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)  # pyright: ignore[reportUnknownMemberType]
        seen, rows = json.loads(table.schema.metadata[_COUNTS_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None
    return GroupBest(
        Candidates(*(table[name].to_numpy() for name in _CANDIDATE_COLUMNS)), PoolCounts(**seen), dict(rows)
    )


def digests(shards: Sequence[Shard], watch: Callable[[int], None]) -> frozenset[int]:
    """The digests of all images in `shards`, such as those of a validation set, which a selection excludes.

    Args:
        shards: what to read.
        watch: called with the number of shards that are read, after each.

    Raises:
        ValueError: naming the shard, if it cannot be read to its end; with the row, if that has no image.
    """
    found: set[int] = set()
    for done, (_, some) in enumerate(tasks.run(_digests_of, ((None, (shard,)) for shard in shards)), 1):
        found |= some
        watch(done)
    return frozenset(found)


def _digests_of(shard: Shard) -> set[int]:
    found: set[int] = set()
    try:
        for row, sample in enumerate(read.samples(shard)):
            if sample.image is None:  # without a digest here, its image could be selected
                raise read.ShardError(f"row {row}, {sample.key!r}, has no image to compare: {sample.error}")
            found.add(read.digest_of(sample.image))
    except read.ShardError as error:
        raise ValueError(f"{shard.uri}: {error}") from None
    return found
