"""What data without labels has instead, and which option would take labels from it."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.steps.probes import Probe
from pipelines import storage
from pipelines.data import labels
from pipelines.data.suffixes import is_parquet

HOW_TO_LABEL = "docs/data.md says how shards give labels; without --dataset, they are evaluated for predictions alone"
_LABEL_MEMBERS = ("json", "txt", "index", "label", "class", "target", "id")
"""Members that may hold a label as text or JSON."""
_SHOWN = 4


def seen(probes: Sequence[Probe]) -> str:
    """What was seen in shards without labels, in one clause, with the options that take labels from it."""
    opened = [entry for entry in probes if not entry.failure and entry.keys]
    tars = [entry for entry in opened if not is_parquet(entry.shard.uri)]
    clauses = [*_of_tars(tars), *(_of_parquet(entry) for entry in opened[:1] if is_parquet(entry.shard.uri))]
    return "; ".join([*clauses, HOW_TO_LABEL])


def _of_tars(tars: Sequence[Probe]) -> Iterator[str]:
    kinds = sorted({kind for entry in tars for kind in entry.passed})
    if kinds:
        taken = [kind for kind in _LABEL_MEMBERS if kind in kinds]
        option = f", of which --label-member {taken[0]} takes labels" if taken else ""
        yield f"members beside the pictures: {_few(kinds)}{option}"
    folders = list(dict.fromkeys(folder for entry in tars for key in entry.keys if (folder := _folder(key))))
    if folders:
        classes = all(labels.from_folder(f"{folder}/x").error is None for folder in folders)
        option = ", which --label-from path takes for classes" if classes else ""
        yield f"folders: {_few(folders)}{option}"


def _of_parquet(entry: Probe) -> str:
    try:
        with storage.open_input(entry.shard.uri) as source:
            names = pq.ParquetFile(source).schema_arrow.names
    except (OSError, pa.ArrowException) as error:  # it was readable a moment ago
        return f"{entry.shard.uri}: {error}"
    return f"columns: {_few(names, 12)}, of which --label-column names the labels"


def _folder(key: str) -> str:
    return key.rpartition("/")[0].rpartition("/")[2]


def _few(names: Sequence[str], most: int = _SHOWN) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
