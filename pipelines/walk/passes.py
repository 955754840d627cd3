"""A pass: models that run together on data that is read once. Which models and shards those are, and with what options.

Imports no torch: drivers configure passes, and torch takes a second to load.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.records import View

_LEAST_CHUNK = {"cpu": 1, "cuda": 128}
"""Images. Each chunk costs Ray some time of its own, which only matters to GPUs; where models are slow, small chunks
show progress and divide the last of the work more evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassConfig:
    """What a scorer runs: the models of a pass with their settings, and the pixels that a chunk holds for them.

    Attributes:
        columns: the models, by slot.
        views: what each image is decoded to, see `decode.decode_chunks`.
        chunk: images in a chunk at most, a multiple of every batch size.
        device: `cpu` or `cuda`.
        memory: bytes that the models may take together; None where the device itself sets the limit.
    """

    columns: tuple[Column, ...]
    views: tuple[View, ...]
    chunk: int
    device: str
    memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """The cells that one pass fills: those of each of its models on each of its shards.

    Attributes:
        columns: positions in the plan's columns; an index of this tuple is a model's slot.
        shards: positions in the dataset.
    """

    columns: tuple[int, ...]
    shards: tuple[int, ...]

    def by_column(self, by_slot: Mapping[int, str]) -> dict[int, str]:
        """The values of `by_slot`, by column of the plan instead of by slot."""
        return {self.columns[slot]: value for slot, value in by_slot.items()}


def configure_pass(columns: Sequence[Column], device: str, memory: int | None) -> PassConfig:
    """The configuration with which `columns` are run on `device`; `memory` as in PassConfig."""
    members = [member for column in columns for member in column.members]
    whole = math.lcm(*(member.settings.batch_size for member in members))
    return PassConfig(
        columns=tuple(columns),
        views=tuple(sorted({member.view for member in members})),
        chunk=whole * -(-_LEAST_CHUNK[device] // whole),
        device=device,
        memory=memory,
    )


def split_passes(plan: Plan, models_per_pass: int) -> list[PassPlan]:
    """The missing cells of `plan` as passes: shards that lack the same models go together."""
    lacking: dict[int, list[int]] = defaultdict(list)
    for column, shards in enumerate(plan.missing):
        for shard in shards:
            lacking[shard].append(column)
    together: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for shard in sorted(lacking):
        columns = lacking[shard]
        for start in range(0, len(columns), models_per_pass):
            together[tuple(columns[start : start + models_per_pass])].append(shard)
    return [PassPlan(columns=columns, shards=tuple(shards)) for columns, shards in together.items()]
