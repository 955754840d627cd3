"""Checkpoints of a training in its store: one object each, all that the next step depends on.

    STORE/training/NAME/checkpoints/STAGE-STEP-TOLD-SHA256.pt

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
_NAME = re.compile(r"(\d)-(\d{9})-([01])-([0-9a-f]{64})\.pt")


@dataclass(frozen=True, slots=True, order=True)
class Saved:
    """A checkpoint: after so many steps of a stage, counted from 0; `uri` is where it lies.

    `told` is 0 where the step is done and not yet validated, which may take longer than there is time.
    """

    stage: int
    step: int
    told: int
    sha256: str
    uri: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a training goes on from; `damaged` are newer ones that were passed over."""

    saved: Saved | None
    content: dict[str, Any] | None
    damaged: tuple[str, ...]


def write(home: str, at: tuple[int, int], content: dict[str, Any], told: int = 1) -> Saved:
    """Put `content`, of tensors and plain values, into the folder or prefix `home` of a training.

    Args:
        home: of the training.
        at: the stage and the steps of it that are done.
        content: what is to be kept.
        told: 0 where the step is still to be validated.

    Raises:
        OSError: if the store cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    digest = hashlib.sha256(data).hexdigest()
    uri = storage.join(home, _FOLDER, f"{at[0]}-{at[1]:09d}-{told}-{digest}.pt")
    try:
        storage.put(uri, data)
    except FileExistsError:  # of this very name and other bytes: it is damaged
        storage.replace(uri, data)
    return Saved(*at, told, digest, uri)


def listed(home: str) -> list[Saved]:
    """The checkpoints of a training, the oldest first."""
    found = []
    for entry in storage.list_objects(storage.join(home, _FOLDER)):
        if match := _NAME.fullmatch(entry.uri.rpartition("/")[2]):
            found.append(Saved(int(match[1]), int(match[2]), int(match[3]), match[4], entry.uri))
    return sorted(found)


def newest(home: str) -> Resumed:
    """The newest checkpoint that is sound."""
    damaged: list[str] = []
    for saved in reversed(listed(home)):
        try:
            return Resumed(saved, load(saved), tuple(damaged))
        except ValueError as error:
            damaged.append(str(error))
        except FileNotFoundError:  # another driver has just removed it
            continue
    return Resumed(None, None, tuple(damaged))


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


def prune(home: str, written: Saved, last: int, best: tuple[int, int] | None) -> None:
    """Remove all but the `last` ones up to the one just `written`, and the best: that of a stage and step.

    What lies beyond it was passed over as damaged when the training went on, and one that was validated since is twice
    there.
    """
    there = listed(home)
    told = {(saved.stage, saved.step) for saved in there if saved.told}
    sound = [saved for saved in there if saved <= written and (saved.told or (saved.stage, saved.step) not in told)]
    kept = {*sound[-last:], *(saved for saved in sound if (saved.stage, saved.step) == best)}
    storage.remove([saved.uri for saved in there if saved not in kept])
