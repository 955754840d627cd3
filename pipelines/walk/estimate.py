"""What work will take and cost: hours of GPUs and CPUs, and dollars, before any of it is done.

Owns the table of prices and rates, `prices.yaml`, which users edit. Refuses to promise: a card's multiply-accumulates
and one rate for all models are right within a factor of two.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.records import Precision, Shard
from zoo.cards import Card
from zoo.macs import macs

_BYTES_PER_IMAGE = 110_000
"""Of ImageNet's; for shards without a manifest."""
_BACKWARD = 3
"""A training step costs the forward pass, and twice as much for the gradients of activations and weights."""
_HOUR = 3600.0
_Work = tuple[Card, Precision, int]
"""A model, its arithmetic, and how many images go through it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Work in seconds: of one GPU or one CPU that runs the models (None where it cannot), and of one CPU that decodes.

    `images` is exact only where manifests say it.
    """

    images: int
    gpu_seconds: float
    cpu_seconds: float | None
    decode_seconds: float

    def usd(self, device: str) -> float:
        """Dollars with the models on `device`, and the decoding on CPUs."""
        seconds = self.gpu_seconds if device == "cuda" else self.cpu_seconds or 0.0
        return _usd(device, seconds) + _usd("cpu", self.decode_seconds)


def of_plan(plan: Plan) -> Estimate:
    """What the missing cells of `plan` take."""
    shards = plan.dataset.shards
    pending = sorted({position for missing in plan.missing for position in missing})
    work: list[_Work] = [
        (member.card, member.settings.precision, sum(images(shards[i]) for i in missing))
        for column, missing in zip(plan.columns, plan.missing, strict=True)
        for member in column.members
    ]
    busy = [column for column, missing in zip(plan.columns, plan.missing, strict=True) if missing]
    return _estimate(work, sum(images(shards[i]) for i in pending), _geometries(busy))


def of_walk(columns: Sequence[Column], shards: Iterable[Shard]) -> Estimate:
    """What all `columns` on all `shards` take."""
    seen = sum(map(images, shards))
    work: list[_Work] = [
        (member.card, member.settings.precision, seen) for column in columns for member in column.members
    ]
    return _estimate(work, seen, _geometries(columns))


def of_training(card: Card, precision: Precision, seen: int) -> Estimate:
    """What training on so many images takes."""
    return _estimate([(card, precision, _BACKWARD * seen)], seen, 1)


def images(shard: Shard) -> int:
    """How many a shard holds; by its size where no manifest says it."""
    rows = shard.rows if shard.limit is None else shard.limit
    return max(1, shard.size // _BYTES_PER_IMAGE) if rows is None else rows


def _geometries(columns: Iterable[Column]) -> int:
    return len({member.view for column in columns for member in column.members})


def _estimate(work: Sequence[_Work], seen: int, geometries: int) -> Estimate:
    decoding = _table()["decoding"]
    each = decoding["seconds_per_image"] + geometries * decoding["seconds_per_geometry"]
    gpu, cpu = (_seconds(work, device) for device in ("cuda", "cpu"))
    assert gpu is not None, "every precision has a rate on GPUs"
    return Estimate(seen, gpu, cpu, seen * each)


def _seconds(work: Sequence[_Work], device: str) -> float | None:
    rates = _table()[device]["macs_per_second"]
    if any(precision not in rates for _, precision, _ in work):
        return None
    return sum(macs(card) * times / float(rates[precision]) for card, precision, times in work)


def _usd(device: str, seconds: float) -> float:
    price = _table()[device]
    return seconds / _HOUR * price["usd_per_hour"] / price["units"]


@functools.cache
def _table() -> dict[str, Any]:
    return yaml.safe_load(resources.files("pipelines.walk").joinpath("prices.yaml").read_text(encoding="utf-8"))
