"""A column: the cells of one model with one set of settings, identified by everything but the shard."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict

from pipelines.records import PLAIN, Decoder, Settings, View, mode_name, short_digest
from zoo.cards import Card
from zoo.weights.wanted import Wanted

SCHEMA_VERSION = 4
"""Increase it with every change to the content of cells; cells of another version are not used."""
_CLASSES_KEPT = 10
"""Default for the classes kept of each row: P of Yalniz et al. 2019 (arXiv:1905.00546), and enough for top-5."""


class _Rare(TypedDict, total=False):
    others: list[list[object]]
    weights_key: str


class ColumnIdentity(_Rare):
    """The JSON of `Column.identity`.

    `others` is in that of an ensemble alone, `weights_key` where the file of weights holds several sets.
    """

    schema: int
    architecture: str
    preprocessing: dict[str, Any]
    label_order: str
    num_classes: int
    subset: Sequence[int] | None
    settings: dict[str, Any]
    decoder: Decoder
    top: int


def is_as_published(card: Card, weights: str | None) -> bool:
    """Whether `weights`, a SHA-256 or the published part of one, are those that the card and its claims are about."""
    published = card.weights.sha256 if card.weights else None
    return bool(published and weights and weights.startswith(published))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A model, or an ensemble, with its settings: the identity of a cell except for its shard.

    Attributes:
        card: the model.
        file: its weights; their digest is known.
        settings: how it is run.
        decoder: how its images are decoded.
        subset: the classes that count where a dataset has only some of the model's (ImageNet-A and -R); None for all.
        max_classes_kept: the most probable classes to keep of each row; all where the model has fewer.
        ensemble: the other models of an ensemble; probabilities are averaged over all.
    """

    card: Card
    file: Wanted
    settings: Settings = PLAIN
    decoder: Decoder = "exact"
    subset: tuple[int, ...] | None = None
    max_classes_kept: int = _CLASSES_KEPT
    ensemble: tuple["Column", ...] = ()

    @property
    def members(self) -> tuple["Column", ...]:
        """The models whose probabilities are averaged; this column alone where it is no ensemble."""
        return (replace(self, ensemble=()), *self.ensemble)

    @property
    def model(self) -> str:
        """The model's name; `A+B` for an ensemble."""
        return "+".join(member.card.name for member in self.members)

    @property
    def weights(self) -> str:
        """SHA-256 of the weights in hexadecimal: the published digits, at least 8, or else all 64.

        The lock in a store knows more digits than the card; the cells must not depend on whether one is there. For an
        ensemble, the SHA-256 of its members' digests.
        """
        if self.ensemble:
            return hashlib.sha256(" ".join(member.weights for member in self.members).encode()).hexdigest()
        digest = self.file.sha256
        assert digest, f"{self.file.file} has no digest"
        return str(self.card.weights.sha256) if self.is_as_published and self.card.weights else digest

    @property
    def is_as_published(self) -> bool:
        """Whether the weights are those of the card's claims, as far as a published digest can tell."""
        return is_as_published(self.card, self.file.sha256)

    @property
    def classes_kept(self) -> int:
        """How many classes a row keeps."""
        return min(self.max_classes_kept, len(self.subset) if self.subset else self.card.num_classes)

    @property
    def view(self) -> View:
        """The pixels that the model needs."""
        return View(self.decoder, self.card.preprocessing.geometry)

    @property
    def mode(self) -> str:
        """How the model is run, as tables show it: `fp32 exact`."""
        return mode_name(self.settings, self.decoder)

    @property
    def identity(self) -> ColumnIdentity:
        """Everything that a cell's content depends on beyond its model, weights and shard.

        Stores hold it under the key `plan`, and its digest in the names of folders: neither keys nor values may change.
        """
        rare: _Rare = {"others": [[other.name, other.identity] for other in self.ensemble]} if self.ensemble else {}
        if self.file.key:
            rare["weights_key"] = self.file.key
        return {
            **rare,
            "schema": SCHEMA_VERSION,
            "architecture": self.card.architecture,
            "preprocessing": asdict(self.card.preprocessing),
            "label_order": self.file.label_order,
            "num_classes": self.card.num_classes,
            "subset": self.subset,
            "settings": asdict(self.settings),
            "decoder": self.decoder,
            "top": self.classes_kept,
        }

    @property
    def name(self) -> str:
        """`<model>-<8 digits of weights>-<8 digits of identity>`, the folder of the column's cells."""
        return column_name(self.model, self.weights, self.identity)


def column_name(model: str, weights: str, identity: ColumnIdentity) -> str:
    """The folder of a column's cells, see `Column.name`."""
    return f"{model}-{weights[:8]}-{short_digest(identity)}"
