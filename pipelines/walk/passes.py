"""A pass: the models that run together on what is read once; which models and shards those are.

Imports no torch: drivers make passes, and torch takes a second to load.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.cells.column import Column
from pipelines.records import View

_LEAST_CHUNK = {"cpu": 1, "cuda": 128}
"""Pictures. A chunk has a price of its own in Ray, which only GPUs are fast enough to feel; where models are slow,
small chunks show progress and share the last of the work out better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassConfig:
    """What a scorer runs: the models of a pass with their settings, and what pixels a chunk holds for them.

    `views` are those of `decode.decode_chunks`; `chunk` pictures at most are in a chunk, a multiple of all batch sizes;
    `memory` is how many bytes the models may take, None where the device says so itself.
    """

    columns: tuple[Column, ...]
    views: tuple[View, ...]
    chunk: int
    device: str
    memory: int | None


def configure_pass(columns: Sequence[Column], device: str, memory: int | None) -> PassConfig:
    """The pass of `columns` on `device`; see PassConfig."""
    members = [member for column in columns for member in column.members]
    whole = math.lcm(*(member.settings.batch_size for member in members))
    return PassConfig(
        columns=tuple(columns),
        views=tuple(sorted({member.view for member in members})),
        chunk=whole * -(-_LEAST_CHUNK[device] // whole),
        device=device,
        memory=memory,
    )


def split_passes(fillable: Sequence[tuple[int, int]], most: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(Models, shards) to walk together: shards that lack the cells of the same models, `most` models at a time."""
    lacking: dict[int, list[int]] = defaultdict(list)
    for model, position in fillable:
        lacking[position].append(model)
    together: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position in sorted(lacking):
        models = lacking[position]
        for start in range(0, len(models), most):
            together[tuple(models[start : start + most])].append(position)
    return [(models, tuple(positions)) for models, positions in together.items()]
