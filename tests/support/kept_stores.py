"""Stores on disk for tests of their maintenance: cells without a model, and the content of every file."""

from dataclasses import replace
from pathlib import Path

from pipelines.cells.cell import publish_cell
from pipelines.cells.runs import RunRecorder
from pipelines.data.dataset import find_dataset
from pipelines.records import Dataset, Settings
from tests.support import cell_rows

COLUMN = replace(cell_rows.COLUMN, settings=Settings(batch_size=4))
SHARDS, IMAGES = 4, 2


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and modification time of everything below `folder`."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def fill(store: Path | str, data: Path, names: str = "0123") -> Dataset:
    """Commit a cell for each of the shards `names`, in a run that has ended."""
    dataset = find_dataset([str(data)])
    recorder = RunRecorder(str(store), dataset, (str(data),), None, pending=len(dataset.shards))
    for shard in dataset.shards:
        if shard.name[-1] in names:
            publish_cell(str(store), dataset, COLUMN, shard, cell_rows.cell_rows(IMAGES))
    recorder.close("finished" if len(names) == SHARDS else "unfinished", {})
    return dataset
