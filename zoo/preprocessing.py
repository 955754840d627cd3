"""How a picture becomes a model's input: the geometry (on the CPU) and the normalisation (on the device).

Owns the numbers, and what two models must share to share the work. Refuses to touch pixels: `pipelines.decode`
applies a geometry with Pillow, `pipelines.score` applies a normalisation on the device.
"""

import math
from dataclasses import dataclass
from typing import Literal

_LARGEST = 4096
"""Pixels a side; beyond it is a slip, and a batch would not fit any device."""
Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, slots=True, order=True)
class Geometry:
    """Resize the short side to `resize` pixels, then cut the central `size` x `size` square.

    Models of one geometry share one decoded uint8 array, whatever their mean and std.
    """

    size: int
    resize: int
    interpolation: Interpolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """A card's test-time preprocessing.

    `crop_pct` is timm's: the share of the resized short side that the central crop keeps. `mean` and `std` are of
    channels in [0, 1], in the order of `channels`.
    """

    size: int
    crop_pct: float
    interpolation: Interpolation
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channels: Literal["RGB", "BGR"] = "RGB"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST or not 0.0 < self.crop_pct <= 1.0:
            raise ValueError(
                f"size {self.size} px, crop {self.crop_pct}: expected 1 to {_LARGEST} px, a crop in (0, 1]"
            )
        if not all(0.0 <= value <= 1.0 for value in self.mean) or not all(0.0 < value <= 1.0 for value in self.std):
            raise ValueError(f"mean {self.mean}, std {self.std}: expected those of channels in [0, 1]")

    @property
    def geometry(self) -> Geometry:
        """The part done on the CPU; the resized short side is floor(size / crop_pct), as timm computes it."""
        return Geometry(self.size, math.floor(self.size / self.crop_pct), self.interpolation)
