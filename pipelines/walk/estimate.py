"""Estimates of time and cost before work begins: hours of GPUs and CPUs, and dollars.

Prices and rates are in `prices.yaml`, which users edit. An estimate divides a model's multiply-accumulates by one rate
for all models; it is right within a factor of two.
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
"""Average of ImageNet; for shards without a manifest."""
_TRAINING_FACTOR = 3
"""A training step costs the forward pass, and twice as much for the gradients of activations and weights."""
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class _Work:
    """Images that go through one model."""

    card: Card
    precision: Precision
    images: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some work takes.

    Attributes:
        images: to decode; exact only where there are manifests.
        gpu_seconds: of one GPU that runs the models.
        cpu_seconds: of one logical CPU that runs the models; None where a precision does not exist on CPUs.
        decode_seconds: of one logical CPU that decodes.
    """

    images: int
    gpu_seconds: float
    cpu_seconds: float | None
    decode_seconds: float

    def usd(self, device: str) -> float:
        """Dollars if models run on `device`, `cpu` or `cuda`, and decoding on CPUs."""
        seconds = self.gpu_seconds if device == "cuda" else self.cpu_seconds or 0.0
        return _usd(device, seconds) + _usd("cpu", self.decode_seconds)


def of_plan(plan: Plan) -> Estimate:
    """What filling the missing cells of `plan` takes."""
    shards = plan.dataset.shards
    pending = sorted({position for missing in plan.missing for position in missing})
    work = [
        _Work(member.card, member.settings.precision, sum(images(shards[i]) for i in missing))
        for column, missing in zip(plan.columns, plan.missing, strict=True)
        for member in column.members
    ]
    busy = [column for column, missing in zip(plan.columns, plan.missing, strict=True) if missing]
    return _estimate(work, sum(images(shards[i]) for i in pending), _geometries(busy))


def of_walk(columns: Sequence[Column], shards: Iterable[Shard]) -> Estimate:
    """What scoring all `shards` with all `columns` takes."""
    total = sum(map(images, shards))
    work = [_Work(member.card, member.settings.precision, total) for column in columns for member in column.members]
    return _estimate(work, total, _geometries(columns))


def of_training(card: Card, precision: Precision, seen: int) -> Estimate:
    """What a training takes that sees `seen` images, counted once per epoch."""
    return _estimate([_Work(card, precision, _TRAINING_FACTOR * seen)], seen, 1)


def images(shard: Shard) -> int:
    """How many images a shard holds; estimated from its size where there is no manifest."""
    rows = shard.rows if shard.limit is None else shard.limit
    return max(1, shard.size // _BYTES_PER_IMAGE) if rows is None else rows


def _geometries(columns: Iterable[Column]) -> int:
    return len({member.view for column in columns for member in column.members})


def _estimate(work: Sequence[_Work], decoded: int, geometries: int) -> Estimate:
    decoding = _prices()["decoding"]
    each = decoding["seconds_per_image"] + geometries * decoding["seconds_per_geometry"]
    gpu, cpu = (_seconds(work, device) for device in ("cuda", "cpu"))
    assert gpu is not None, "every precision has a rate on GPUs"
    return Estimate(decoded, gpu, cpu, decoded * each)


def _seconds(work: Sequence[_Work], device: str) -> float | None:
    rates = _prices()[device]["macs_per_second"]
    if any(part.precision not in rates for part in work):
        return None
    return sum(macs(part.card) * part.images / float(rates[part.precision]) for part in work)


def _usd(device: str, seconds: float) -> float:
    price = _prices()[device]
    return seconds / _HOUR * price["usd_per_hour"] / price["units"]


@functools.cache
def _prices() -> dict[str, Any]:
    return yaml.safe_load(resources.files("pipelines.walk").joinpath("prices.yaml").read_text(encoding="utf-8"))
