"""Cards: what is claimed of a model, as data.

Owns the fields and their checks. Refuses to measure anything and to import torch: listing the zoo must stay instant.
"""

import re
from dataclasses import dataclass
from typing import Literal

from zoo.architectures.architecture import TIMM, Architecture
from zoo.architectures.table import find_architecture
from zoo.preprocessing import Preprocessing

LabelOrder = Literal["synset", "devkit"]
"""Which of a classifier's outputs is which class: sorted synset ids, as everywhere here, or ILSVRC2012_ID less one."""

_NAME = re.compile(rf"({TIMM})?\w[\w.-]*")
_NAME_BYTES = 200
"""Folders of cells and files of weights are called after a model: local disks allow 255, and digests need some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A published number: `value` in percent on `dataset`, as said by `source`.

    It is printed with so many `decimals`, None for those of `value`, and so stands for all that round to it. `size` is
    the input's side in pixels where it is another than the card's.
    """

    metric: Literal["top1", "top5"]
    value: float
    dataset: str
    source: str
    decimals: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 100.0:
            raise ValueError(f"claim {self.metric}={self.value} is not a percentage in [0, 100]")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """Where the published weights are, and what they must be.

    `location` is a URL, or `package:PACKAGE/PATH` for a file inside an installed Python package; `mirrors` are other
    URLs of the same bytes. `sha256` is the hexadecimal digest or its published beginning (torch.hub's convention: eight
    digits in the file name), None where none is published. `size` is the published one, in bytes.
    """

    location: str
    sha256: str | None
    license: str | None
    mirrors: tuple[str, ...] = ()
    size: int | None = None

    def __post_init__(self) -> None:
        digest = self.sha256
        if digest is not None and (len(digest) < 8 or set(digest) - set("0123456789abcdef")):
            raise ValueError(f"sha256 {digest!r} of {self.location} is not at least 8 lower-case hex digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Erratum:
    """What a published card has wrong or leaves out: `published` became `correct`; None where that is not known."""

    field: str
    reason: str
    published: str | None = None
    correct: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model of the zoo and all that is claimed of it.

    `architecture` is a name of `zoo.architectures`. `label_order` is that of the classes in the published file, and in
    any of Caffe's; `zoo.create` puts them into ours. `claimed_params` and `claimed_flops` are as published, rounded and
    counted as their publisher did. `facts` are what else the publisher says, of the training above all.
    """

    name: str
    architecture: str
    preprocessing: Preprocessing
    weights: WeightsFile | None
    claims: tuple[Claim, ...]
    paper: str
    code: str | None = None
    num_classes: int = 1000
    label_order: LabelOrder = "synset"
    claimed_params: int | None = None
    claimed_flops: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    errata: tuple[Erratum, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name.encode()) > _NAME_BYTES:
            raise ValueError(
                f"a card is called {self.name!r}: a name is of letters, digits, '_' and, after the first, '.' and '-' "
                f"and has {_NAME_BYTES} bytes at most, since folders are called after it"
            )
        find_architecture(self.architecture)
        if self.name == "all":
            raise ValueError("the name 'all' selects every model; give yours another name")
        if self.label_order == "devkit" and self.num_classes != 1000:
            raise ValueError(f"label order devkit goes with 1000 classes, not {self.num_classes}")

    @property
    def network(self) -> Architecture:
        """What builds the model."""
        return find_architecture(self.architecture)

    @property
    def params(self) -> int:
        """Trainable values, exactly."""
        return self.network.params_with(self.num_classes)
