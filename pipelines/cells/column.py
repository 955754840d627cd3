"""A column: the cells of one model with one set of settings, and all of their identity beyond the shard."""

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.records import PLAIN, Decoder, Settings, View, mode_name, short_digest
from zoo.cards import Card
from zoo.weights.wanted import Wanted

SCHEMA_VERSION = 4


TOP = 10
"""Classes kept of each row where nothing else is asked for: P of Yalniz et al. 2019, and enough for top-5."""


def is_as_published(card: Card, weights: str | None) -> bool:
    """Whether `weights`, a SHA-256 or the published part of one, are those that the card and its claims are about."""
    published = card.weights.sha256 if card.weights else None
    return bool(published and weights and weights.startswith(published))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The cells of one model with one plan: everything that a cell's identity has beyond its shard."""

    card: Card
    file: Wanted
    """The weights; their digest is known."""
    settings: Settings = PLAIN
    decoder: Decoder = "exact"
    subset: tuple[int, ...] | None = None
    """The classes that count, where a dataset has but some of the model's (ImageNet-A and -R); None for all."""
    keep: int = TOP
    """Classes kept of each row, of all where there are fewer."""
    others: tuple["Column", ...] = ()
    """Of an ensemble the further members: its probabilities are the mean of all members'."""

    @property
    def members(self) -> tuple["Column", ...]:
        """The models whose probabilities are averaged; this column itself where it is no ensemble."""
        return (replace(self, others=()), *self.others)

    @property
    def model(self) -> str:
        """The model's name, of an ensemble `A+B`."""
        return "+".join(member.card.name for member in self.members)

    @property
    def weights(self) -> str:
        """SHA-256 of the weights in hexadecimal: as much as is published, at least 8 digits, and else all of it.

        A lock in the store knows more digits than the card; the cells must not depend on whether one is there. Of an
        ensemble, the SHA-256 of its members'.
        """
        if self.others:
            return hashlib.sha256(" ".join(member.weights for member in self.members).encode()).hexdigest()
        digest = self.file.sha256
        assert digest, f"{self.file.file} has no digest"
        return str(self.card.weights.sha256) if self.is_as_published and self.card.weights else digest

    @property
    def is_as_published(self) -> bool:
        """Whether the weights are the published ones."""
        return is_as_published(self.card, self.file.sha256)

    @property
    def top(self) -> int:
        """Classes kept of each row."""
        return min(self.keep, len(self.subset) if self.subset else self.card.num_classes)

    @property
    def view(self) -> View:
        """The pixels that the model wants."""
        return View(self.decoder, self.card.preprocessing.geometry)

    @property
    def mode(self) -> str:
        """What tables show of how it is run: `fp32 exact`."""
        return mode_name(self.settings, self.decoder)

    @property
    def plan(self) -> dict[str, Any]:
        """The settings that a cell's content depends on beyond its model and shard."""
        others = {"others": [[other.name, other.plan] for other in self.others]} if self.others else {}
        return others | {
            "schema": SCHEMA_VERSION,
            "architecture": self.card.architecture,
            "preprocessing": asdict(self.card.preprocessing),
            "label_order": self.file.label_order,
            "num_classes": self.card.num_classes,
            "subset": self.subset,
            "settings": asdict(self.settings),
            "decoder": self.decoder,
            "top": self.top,
        }

    @property
    def name(self) -> str:
        """`<model>-<weights8>-<plan8>`."""
        return f"{self.model}-{self.weights[:8]}-{short_digest(self.plan)}"
