"""How an image becomes a model's input: the geometry (applied on the CPU) and the normalisation (on the device).

These are only the numbers: `pipelines.pixels.exact_decode` and `fast_decode` apply a geometry,
`pipelines.models.engine` a normalisation. Models with equal geometries share decoded images.
"""

import math
from dataclasses import dataclass
from typing import Literal

_LARGEST = 4096
"""Pixels per side; more is taken for a mistake, since a batch would not fit on any device."""
Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, slots=True, order=True)
class Geometry:
    """Resize the short side to `resize` pixels, then crop the central square of `size` x `size` pixels.

    Models with equal geometries share one decoded uint8 array, whatever their mean and std.
    """

    size: int
    resize: int
    interpolation: Interpolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """A card's test-time preprocessing.

    Attributes:
        size: Side of the model's square input in pixels.
        crop_pct: The fraction of the resized short side that the central crop keeps, as in timm.
        interpolation: Filter for resizing.
        mean: Mean of each channel, for values in [0, 1], in the order of `channels`.
        std: Standard deviation of each channel, likewise.
        channels: Order of the channels in the model's input.

    Raises:
        ValueError: If a value is out of range.
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
                f"size {self.size} px, crop {self.crop_pct}: expected 1 to {_LARGEST} px and a crop in (0, 1]"
            )
        if not all(0.0 <= value <= 1.0 for value in self.mean) or not all(0.0 < value <= 1.0 for value in self.std):
            raise ValueError(
                f"mean {self.mean}, std {self.std}: expected a mean in [0, 1] and a std in (0, 1] per channel"
            )

    @property
    def geometry(self) -> Geometry:
        """The geometry; the resized short side is floor(size / crop_pct), as in timm."""
        return Geometry(self.size, math.floor(self.size / self.crop_pct), self.interpolation)
