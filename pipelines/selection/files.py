"""A selection as it lies in a store: which samples of a pool were chosen for which class, by whom, by what rule.

    OUTPUT/selection.parquet    label, rank, score, shard, index, truth: by label and rank
    OUTPUT/pool.parquet         the shards of the pool, which `shard` counts
    OUTPUT/selection.json       the pool, the teacher, the rule, the counts

Owns these files. The JSON is written last, so a folder without one was interrupted. Refuses to be another selection
than its JSON says.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.data import read as reading
from pipelines.records import Dataset, Shard
from pipelines.selection.topk import Candidates

TABLE_FILE, POOL_FILE, ABOUT_FILE = "selection.parquet", "pool.parquet", "selection.json"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was chosen: CHOSEN rows, of `pool`; `about` says the rest, as JSON has it."""

    pool: Dataset
    chosen: pa.Table
    about: Mapping

    @property
    def identity(self) -> str:
        """Eight hex digits that change with whatever the selection depends on."""
        return self.about["identity"]


def by_rank(best: Candidates) -> pa.Table:
    """Candidates by class and rank as CHOSEN rows."""
    starts = np.searchsorted(best.label, best.label)  # where a row's class begins
    rank = np.arange(len(best), dtype=np.int32) - starts.astype(np.int32) + 1
    truth = pa.array(best.truth, mask=best.truth < 0)
    return pa.table([best.label, rank, best.score, best.shard, best.index, truth], schema=CHOSEN)


def write_selection(output: str, pool: Dataset, chosen: pa.Table, about: Mapping) -> None:
    """Write CHOSEN rows, their pool and what is to be said of them, `identity` at least."""
    table, shards = _parquet(chosen), _parquet(reading.shard_rows(pool.shards, range(len(pool.shards))))
    storage.replace(storage.join(output, TABLE_FILE), table)
    storage.replace(storage.join(output, POOL_FILE), shards)
    said = {
        **about,
        "pool": {"name": pool.name, "source": pool.source, "digest": pool.digest, "sha256": _sha256(shards)},
        "sha256": _sha256(table),
    }
    storage.replace(storage.join(output, ABOUT_FILE), (json.dumps(said, indent=1, sort_keys=True) + "\n").encode())


def read_selection(location: str) -> Selection | None:
    """The selection in the folder `location`; None where there is none, or not yet.

    Raises:
        ValueError: naming the file, if one is damaged.
    """
    try:
        about = json.loads(storage.read(storage.join(location, ABOUT_FILE)))
        promised = {TABLE_FILE: about["sha256"], POOL_FILE: about["pool"]["sha256"]}
        pool, source = about["pool"]["name"], about["pool"]["source"]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{storage.join(location, ABOUT_FILE)} is damaged or not ours: {error!r}") from error
    table, shards = (_table(storage.join(location, name), promised[name]) for name in (TABLE_FILE, POOL_FILE))
    rows = [Shard(**row) for row in shards.drop_columns(["position"]).to_pylist()]
    return Selection(pool=Dataset(name=pool, source=source, shards=tuple(rows)), chosen=table, about=about)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _table(location: str, sha256: str) -> pa.Table:
    content = storage.read(location)
    if _sha256(content) != sha256:
        raise ValueError(
            f"{location} is damaged: its SHA-256 is not what {ABOUT_FILE} says; remove the folder and select again"
        )
    return pq.read_table(pa.BufferReader(content))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
