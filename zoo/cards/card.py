"""The fields of a card and their checks. Does not import torch, so that listing the zoo stays fast."""

import re
from dataclasses import dataclass
from typing import Literal

from zoo.architectures.architecture import TIMM, Architecture
from zoo.architectures.table import find_architecture
from zoo.preprocessing import Preprocessing

LabelOrder = Literal["synset", "devkit"]
"""Order of a classifier's outputs: by sorted synset id, as everywhere here, or by ILSVRC2012_ID minus 1."""

_NAME = re.compile(rf"({TIMM})?\w[\w.-]*")
_NAME_BYTES = 200
"""File names contain the model's name and digests; local file systems allow 255 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A published accuracy.

    Attributes:
        metric: The metric.
        value: The accuracy in percent.
        dataset: Name of the evaluation set.
        source: Where the claim is published.
        decimals: Number of published decimals, which defines the values that round to the claim; None for those of
            `value`.
        size: Side of the input in pixels; None for the card's.

    Raises:
        ValueError: If `value` is not in [0, 100].
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
    """The published file of weights.

    Attributes:
        location: A URL, or `package:PACKAGE/PATH` for a file inside an installed Python package.
        sha256: The hexadecimal digest or its published prefix (torch.hub's convention: eight digits in the file name);
            None where none is published.
        license: The licence of the weights; None where none is stated.
        mirrors: Other URLs of the same bytes.
        size: The published size in bytes.

    Raises:
        ValueError: If `sha256` is not at least 8 lower-case hexadecimal digits.
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
    """An error or omission of a published card: `published` is replaced by `correct`; None where that is unknown."""

    field: str
    reason: str
    published: str | None = None
    correct: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model and its published claims.

    Attributes:
        name: Name of the model; letters, digits, `_`, and after the first character `.` and `-`.
        architecture: Name of its architecture, see `zoo.architectures.table`.
        preprocessing: How images are prepared at test time.
        weights: The published file; None where no weights are published.
        claims: Published accuracies.
        paper: Title and URL of the paper.
        code: URL of the published code.
        num_classes: Number of classes.
        label_order: Order of the classes in the published file and in Caffe files; `zoo.create` converts it to
            `synset`.
        claimed_params: Published number of parameters, rounded as published.
        claimed_flops: Published FLOPs, counted as its publisher did.
        facts: Further published fields and values, mostly about the training.
        errata: Errors and omissions of the published card.

    Raises:
        ValueError: If the name cannot be used, the architecture is unknown, or the label order does not fit.
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
                f"the name {self.name!r} of a card is not valid: expected letters, digits, '_', after the first '.' "
                f"and '-', and at most {_NAME_BYTES} bytes, since folders have this name"
            )
        find_architecture(self.architecture)
        if self.name == "all":
            raise ValueError("the name 'all' selects every model; give the card another name")
        if self.label_order == "devkit" and self.num_classes != 1000:
            raise ValueError(f"label order devkit requires 1000 classes, found {self.num_classes}")

    @property
    def network(self) -> Architecture:
        """The architecture, which builds the network."""
        return find_architecture(self.architecture)

    @property
    def params(self) -> int:
        """Exact number of trainable values."""
        return self.network.params_with(self.num_classes)
