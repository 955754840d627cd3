"""How many samples the shards of a training hold, where no manifest says it.

Owns that they are counted once, by Ray tasks that read them, and written down beside the checkpoints: a training has
one order of its samples, from its first day to its last.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipelines import storage
from pipelines.cluster import tasks
from pipelines.data import read
from pipelines.data.formats import ShardError
from pipelines.records import Shard
from pipelines.training.specification import Stage, Training

_EVERY = 200
"""Shards after which it is written down: counting may be broken off too."""


def counted(training: Training, watch: Callable[[int], None]) -> tuple[Stage, ...]:
    """The stages with the rows of every shard; `watch` is told how many have been counted.

    Raises:
        ValueError: if a shard cannot be read.
    """
    done, stages = 0, []
    for stage in training.stages:
        rows = list(_known(training.home, stage) or stage.rows)
        done += sum(map(bool, rows)) - sum(map(bool, stage.rows))
        unknown = [(at, (shard,)) for at, shard in enumerate(stage.dataset.shards) if not rows[at]]
        for number, (at, found) in enumerate(tasks.run(_count, unknown), 1):
            rows[at], done = found, done + 1
            watch(done)
            if number % _EVERY == 0 or number == len(unknown):
                storage.replace(_place(training.home, stage), json.dumps(rows).encode())
        stages.append(replace(stage, rows=tuple(rows)))
    return tuple(stages)


def noted(home: str, stage: Stage) -> Stage | None:
    """The stage with the rows that manifests or an earlier count say; None where shards have to be read."""
    known = stage.rows if all(stage.rows) else _known(home, stage)
    return replace(stage, rows=tuple(known)) if known and all(known) else None


def _known(home: str, stage: Stage) -> Sequence[int] | None:
    """What has been counted, 0 where it has not."""
    try:
        return json.loads(storage.read(_place(home, stage)))
    except FileNotFoundError:
        return None


def _place(home: str, stage: Stage) -> str:
    return storage.join(home, f"rows-{stage.name}.json")


def _count(shard: Shard) -> int:
    try:
        return sum(1 for _ in read.samples(shard))
    except ShardError as error:
        raise ValueError(f"{shard.uri}: {error}") from None
