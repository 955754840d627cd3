"""A selection as it lies in a store: which samples of a pool were chosen for which class.

    OUTPUT/selection.parquet    label, rank, score, shard, index, truth: by label and rank
    OUTPUT/pool.parquet         the shards of the pool, to which `shard` refers by position
    OUTPUT/selection.json       the pool, the teacher, the rule, the counts, the digests of the two tables

The JSON is written last, so a folder without one is an interrupted selection. A file whose digest differs from the
JSON's is an error.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.data import read as reading
from pipelines.records import Dataset, Shard
from pipelines.selection.facts import SelectionFacts
from pipelines.selection.topk import Candidates

TABLE_FILE, POOL_FILE, FACTS_FILE = "selection.parquet", "pool.parquet", "selection.json"
CHOSEN = pa.schema(
    [
        ("label", pa.int16()),
        ("rank", pa.int32()),  # from 1, in its class
        ("score", pa.float32()),
        ("shard", pa.int32()),  # position in the pool
        ("index", pa.int32()),  # in the shard
        ("truth", pa.int32()),  # the sample's own label, where it has one
    ]
)
"""One row for each sample and class that it was chosen for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """CHOSEN rows of `pool`, and the facts about them."""

    pool: Dataset
    chosen: pa.Table
    facts: SelectionFacts

    @property
    def identity(self) -> str:
        """Eight hex digits that change with whatever the selection depends on."""
        return self.facts.identity


def by_rank(best: Candidates) -> pa.Table:
    """CHOSEN rows of candidates, which are in the order of class and rank."""
    starts = np.searchsorted(best.label, best.label)  # where a row's class begins
    rank = np.arange(len(best), dtype=np.int32) - starts.astype(np.int32) + 1
    truth = pa.array(best.truth, mask=best.truth < 0)
    columns: list[Any] = [best.label, rank, best.score, best.shard, best.index, truth]  # the stub lacks NumPy's arrays
    return pa.table(columns, schema=CHOSEN)


def write_selection(output: str, selection: Selection) -> None:
    """Write the selection into the folder `output`."""
    pool = selection.pool
    table, shards = _parquet(selection.chosen), _parquet(reading.shard_rows(pool.shards, range(len(pool.shards))))
    storage.replace(storage.join(output, TABLE_FILE), table)
    storage.replace(storage.join(output, POOL_FILE), shards)
    content = {
        **selection.facts.to_json(),
        "pool": {"name": pool.name, "source": pool.source, "digest": pool.digest, "sha256": _sha256(shards)},
        "sha256": _sha256(table),
    }
    storage.replace(storage.join(output, FACTS_FILE), (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def read_selection(location: str) -> Selection | None:
    """The selection in the folder `location`; None where there is none, or an interrupted one.

    Raises:
        ValueError: naming the file, if one is damaged.
    """
    place = storage.join(location, FACTS_FILE)
    try:
        content = json.loads(storage.read(place))
        digests = {TABLE_FILE: content["sha256"], POOL_FILE: content["pool"]["sha256"]}
        pool, source = content["pool"]["name"], content["pool"]["source"]
        facts = SelectionFacts.from_json(content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{place} is damaged or not a selection of this release: {error!r}") from error
    table, shards = (_verified_table(storage.join(location, name), digests[name]) for name in (TABLE_FILE, POOL_FILE))
    rows = [Shard(**row) for row in shards.drop_columns(["position"]).to_pylist()]
    return Selection(pool=Dataset(name=pool, source=source, shards=tuple(rows)), chosen=table, facts=facts)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")  # pyright: ignore[reportUnknownMemberType]
    return sink.getvalue().to_pybytes()


def _verified_table(location: str, sha256: str) -> pa.Table:
    content = storage.read(location)
    if _sha256(content) != sha256:
        raise ValueError(
            f"{location} is damaged: its SHA-256 is not that in {FACTS_FILE}; remove the folder and select again"
        )
    return pq.read_table(pa.BufferReader(content))  # pyright: ignore[reportUnknownMemberType]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
