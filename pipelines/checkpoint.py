"""Checkpoints of a training in its store: one object each, all that the next step depends on.

    STORE/training/NAME/checkpoints/STAGE-STEP-SHA256.pt

Owns their names, by which the newest is known and its bytes are verified; that a damaged one is passed over for the one
before; and which are kept. Refuses to trust: a file is hashed before it is parsed, and parsed as tensors and plain
values alone. What is written is there whole or not at all, see `storage`.
"""

import hashlib
import io
import re
from dataclasses import dataclass
from typing import Any

import torch

from pipelines import storage

_FOLDER = "checkpoints"
_NAME = re.compile(r"(?P<stage>\d)-(?P<step>\d{9})-(?P<sha256>[0-9a-f]{64})\.pt")


@dataclass(frozen=True, slots=True, order=True)
class Saved:
    """A checkpoint: after so many steps of a stage, counted from 0; `uri` is where it lies."""

    stage: int
    step: int
    sha256: str
    uri: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a training goes on from; `damaged` are newer ones that were passed over."""

    saved: Saved | None
    content: dict[str, Any] | None
    damaged: tuple[str, ...]


def write(home: str, stage: int, step: int, content: dict[str, Any]) -> Saved:
    """Put `content`, of tensors and plain values, into the folder or prefix `home` of a training.

    Raises:
        OSError: if the store cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    digest = hashlib.sha256(data).hexdigest()
    uri = storage.join(home, _FOLDER, f"{stage}-{step:09d}-{digest}.pt")
    try:
        storage.put(uri, data)
    except FileExistsError:  # of this very name and other bytes: it is damaged
        storage.replace(uri, data)
    return Saved(stage, step, digest, uri)


def listed(home: str) -> list[Saved]:
    """The checkpoints of a training, the oldest first."""
    found = []
    for entry in storage.list_objects(storage.join(home, _FOLDER)):
        if match := _NAME.fullmatch(entry.uri.rpartition("/")[2]):
            found.append(Saved(int(match["stage"]), int(match["step"]), match["sha256"], entry.uri))
    return sorted(found)


def newest(home: str) -> Found:
    """The newest checkpoint that is sound."""
    damaged: list[str] = []
    for saved in reversed(listed(home)):
        try:
            return Found(saved, load(saved), tuple(damaged))
        except ValueError as error:
            damaged.append(str(error))
        except FileNotFoundError:  # another driver has just removed it
            continue
    return Found(None, None, tuple(damaged))


def load(saved: Saved) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        ValueError: if it is damaged.
        FileNotFoundError: if it is not there.
    """
    data = storage.read(saved.uri)
    if hashlib.sha256(data).hexdigest() != saved.sha256:
        raise ValueError(f"{saved.uri} is damaged: its SHA-256 is not the one in its name")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def prune(home: str, last: int, best: tuple[int, int] | None) -> None:
    """Remove all but the `last` newest, and the best: that of a stage and step."""
    there = listed(home)
    storage.remove([saved.uri for saved in there[:-last] if (saved.stage, saved.step) != best])
