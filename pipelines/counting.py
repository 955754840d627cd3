"""How many samples the shards of a training hold, where no manifest says it.

Owns that they are counted once, by Ray tasks that read them, and written down beside the checkpoints: a training has
one order of its samples, from its first day to its last.
"""

import json
from dataclasses import replace

from pipelines import read, storage, tasks
from pipelines.formats import ShardError
from pipelines.records import Shard
from pipelines.stages import Stage, Training


def counted(training: Training) -> tuple[Stage, ...]:
    """The stages with the rows of every shard.

    Raises:
        ValueError: if a shard cannot be read.
    """
    return tuple(_stage(training.home, stage) for stage in training.stages)


def _stage(home: str, stage: Stage) -> Stage:
    if known := noted(home, stage):
        return known
    unknown = ((at, (shard,)) for at, shard in enumerate(stage.dataset.shards) if not stage.rows[at])
    found = dict(tasks.run(_count, unknown))
    rows = tuple(found.get(at, known) for at, known in enumerate(stage.rows))
    storage.put(_place(home, stage), json.dumps(rows).encode())
    return replace(stage, rows=rows)


def noted(home: str, stage: Stage) -> Stage | None:
    """The stage with the rows that manifests or an earlier count say; None where shards have to be read."""
    if all(stage.rows):
        return stage
    try:
        return replace(stage, rows=tuple(json.loads(storage.read(_place(home, stage)))))
    except FileNotFoundError:
        return None


def _place(home: str, stage: Stage) -> str:
    return storage.join(home, f"rows-{stage.name}.json")


def _count(shard: Shard) -> int:
    try:
        return sum(1 for _ in read.samples(shard))
    except ShardError as error:
        raise ValueError(f"{shard.uri}: {error}") from None
