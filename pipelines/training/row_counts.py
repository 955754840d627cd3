"""Counts the samples of a training's shards where no manifest has their number.

Ray tasks read each shard once; the counts are stored beside the checkpoints, so a training keeps one order of its
samples from its first start to its last.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipelines import storage
from pipelines.cluster import tasks
from pipelines.data import read
from pipelines.data.containers import ShardError
from pipelines.records import Shard
from pipelines.training.specification import Stage, Training

_EVERY = 200
"""Shards between two writes of the counts: counting can be interrupted too."""


def count_rows(training: Training, watch: Callable[[int], None]) -> tuple[Stage, ...]:
    """The stages with the rows of every shard; `watch` is called with the number of shards counted so far.

    Raises:
        ValueError: if a shard cannot be read.
    """
    done = 0
    stages: list[Stage] = []
    for stage in training.stages:
        rows = list(_stored_rows(training.home, stage) or stage.rows)
        done += sum(map(bool, rows)) - sum(map(bool, stage.rows))
        unknown = [(at, (shard,)) for at, shard in enumerate(stage.dataset.shards) if not rows[at]]
        for number, (at, found) in enumerate(tasks.run(_count, unknown), 1):
            rows[at], done = found, done + 1
            watch(done)
            if number % _EVERY == 0 or number == len(unknown):
                storage.replace(_uri(training.home, stage), json.dumps(rows).encode())
        stages.append(replace(stage, rows=tuple(rows)))
    return tuple(stages)


def with_known_rows(home: str, stage: Stage) -> Stage | None:
    """The stage with the rows from its manifests or from an earlier count; None if shards have to be read."""
    known = stage.rows if all(stage.rows) else _stored_rows(home, stage)
    return replace(stage, rows=tuple(known)) if known and all(known) else None


def _stored_rows(home: str, stage: Stage) -> Sequence[int] | None:
    """Rows of each shard from an earlier count, 0 where not counted; None without one."""
    try:
        return json.loads(storage.read(_uri(home, stage)))
    except FileNotFoundError:
        return None


def _uri(home: str, stage: Stage) -> str:
    return storage.join(home, f"rows-{stage.name}.json")


def _count(shard: Shard) -> int:
    try:
        return sum(1 for _ in read.samples(shard))
    except ShardError as error:
        raise ValueError(f"{shard.uri}: {error}") from None
