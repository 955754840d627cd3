"""Cards: what is claimed of a model, as data.

Owns the fields and their checks. Refuses to measure anything and to import torch: listing the zoo must stay instant.
"""

from dataclasses import dataclass
from typing import Literal

from zoo.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A published number: `value` in percent for accuracies, on `dataset`, as said by `source`."""

    metric: Literal["top1", "top5"]
    value: float
    dataset: str
    source: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 100.0:
            raise ValueError(f"claim {self.metric}={self.value} is not a percentage in [0, 100]")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """Where the published weights are, and the digest that they must have.

    `location` is a URL, or `package:PACKAGE/PATH` for a file inside an installed Python package. `sha256` is the
    hexadecimal digest or its published beginning (torch.hub's convention: eight digits in the file name).
    """

    location: str
    sha256: str
    license: str

    def __post_init__(self) -> None:
        if len(self.sha256) < 8 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 {self.sha256!r} of {self.location} is not at least 8 lower-case hex digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model of the zoo and all that is claimed of it.

    `architecture` names the builder as `module:function`, called as `function(num_classes=...)`; `key_map` names a
    function `dict -> dict` of the same form that renames a published checkpoint's keys to ours, None where they agree.
    `errata` says what the published card has wrong, one reason an entry.
    """

    name: str
    architecture: str
    params: int
    preprocessing: Preprocessing
    weights: WeightsFile | None
    claims: tuple[Claim, ...]
    paper: str
    key_map: str | None = None
    num_classes: int = 1000
    errata: tuple[str, ...] = ()
