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
        ValueError: if a shard cannot be read, or there are too few samples.
    """
    done = 0
    stages: list[Stage] = []
    for stage in training.stages:
        rows = _stored_rows(training.home, stage) or [known or None for known in stage.rows]
        done += sum(row is not None for row in rows) - sum(map(bool, stage.rows))
        unknown = [(at, (shard,)) for at, shard in enumerate(stage.dataset.shards) if rows[at] is None]
        for number, (at, found) in enumerate(tasks.run(_count, unknown), 1):
            rows[at], done = found, done + 1
            watch(done)
            if number % _EVERY == 0 or number == len(unknown):
                storage.replace(_uri(training.home, stage), json.dumps(rows).encode())
        stages.append(_with_rows(stage, [row or 0 for row in rows]))
    return tuple(stages)


def with_known_rows(home: str, stage: Stage) -> Stage | None:
    """The stage with the rows from its manifests or from an earlier count; None if shards have to be read."""
    known = list(stage.rows) if all(stage.rows) else _stored_rows(home, stage)
    if not known or None in known:
        return None
    return _with_rows(stage, [row or 0 for row in known])


def _with_rows(stage: Stage, rows: Sequence[int]) -> Stage:
    require_samples(stage, rows)
    return replace(stage, rows=tuple(rows))


def require_samples(stage: Stage, rows: Sequence[int]) -> None:
    """Raise ValueError if the shards of a stage hold fewer samples than there are streams.

    Args:
        stage: names the data and the number of streams.
        rows: samples of each shard.
    """
    if sum(rows) < stage.streams:
        raise ValueError(
            f"{stage.dataset.source}: {sum(rows)} samples for the stage {stage.name}, fewer than --streams "
            f"{stage.streams}, the parts in which they are read"
        )


def _stored_rows(home: str, stage: Stage) -> list[int | None] | None:
    """Rows of each shard from an earlier count, None where not counted; None without one."""
    try:
        return json.loads(storage.read(_uri(home, stage)))
    except FileNotFoundError:
        return None


def _uri(home: str, stage: Stage) -> str:
    return storage.join(home, f"counts-{stage.name}.json")


def _count(shard: Shard) -> int:
    try:
        return sum(1 for _ in read.samples(shard))
    except ShardError as error:
        raise ValueError(f"{shard.uri}: {error}") from None
