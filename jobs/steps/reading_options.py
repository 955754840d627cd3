"""The options for shards that others wrote: where a sample's picture, label and key are, if it is not told by rule."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from jobs.console import cli
from pipelines.records import Reading


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(cli.Job):
    """How samples are read from shards without a manifest of `jobs.pack_shards`."""

    image_member: str | None = None
    """The picture's member in a tar where a sample has several: what follows the sample's name, `jpg` or `input.jpg`.
    `*` makes every picture a sample of its own, with dots in its key."""
    label_member: str | None = None
    """The label's member in a tar, if not `cls`: `txt`, `index`, `json` (its field `label`) or `json:FIELD`."""
    label_from: Literal["path"] | None = None
    """`path` takes the folder that holds the picture in the tar for its class: a synset or a whole number."""
    image_column: str | None = None
    """The column of encoded pictures in Parquet, if not `image`, `img`, `jpg`, `bytes` or the like."""
    label_column: str | None = None
    """The column of labels in Parquet, if not `label`, `cls`, `class` or the like."""
    key_column: str | None = None
    """The column of keys in Parquet, if not `key`, `__key__`, `id` or `path`; `ROW` numbers the rows."""


def reading(config: ReadingOptions) -> Reading:
    """The part of `config` that says how samples are read.

    Raises:
        ValueError: if two options contradict each other.
    """
    if config.label_member and config.label_from:
        raise ValueError(f"--label-member {config.label_member}: goes without --label-from {config.label_from}")
    for field in dataclasses.fields(ReadingOptions):
        if field.name != "config" and getattr(config, field.name) == "":
            raise ValueError(f"--{field.name.replace('_', '-')} is empty")
    return Reading(
        image_member=_member(config.image_member),
        label_member=_label_member(config.label_member),
        label_from=config.label_from,
        image_column=config.image_column,
        label_column=config.label_column,
        key_column=config.key_column,
    )


def _member(given: str | None) -> str | None:
    """One spelling of a member, since it is part of the identity of cells."""
    return given.removeprefix(".").lower() if given else None


def _label_member(given: str | None) -> str | None:
    kind, colon, field = (given or "").partition(":")
    member = _member(kind)
    if colon and not (member or "").endswith("json"):
        raise ValueError(f"--label-member {given}: a field goes with JSON alone, as in json:class_id")
    return f"{member}:{field}" if field not in {"", "label"} else member
