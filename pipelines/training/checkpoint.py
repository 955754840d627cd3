"""Checkpoints of a training in its store: one object each, with everything that the next step depends on.

    STORE/training/NAME/checkpoints/STAGE-STEP-COMPLETE-SHA256.pt

The name tells which one is newest and which bytes it has to have: a file is hashed before it is parsed, parsed as
tensors and plain values alone, and a damaged one is skipped for the one before. Objects appear whole or not at all, see
`storage`.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines import storage
from pipelines.training import ownership
from pipelines.training.progress import CurvePoint, Position

_FOLDER = "checkpoints"
_NAME = re.compile(r"(\d)-(\d{9})-([01])-([0-9a-f]{64})\.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerState:
    """The state of a network in training and of its optimiser.

    Args:
        network: parameters and buffers by name.
        optimiser: the state of SGD, its momentum above all.
        scaler: the state of the loss scaler; empty unless the precision is fp16.
        average: the moving average of the floating-point tensors in `network`; None without one.
    """

    network: dict[str, Tensor]
    optimiser: dict[str, Any]
    scaler: dict[str, Any]
    average: dict[str, Tensor] | None

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to publish: the moving average where there is one."""
        return self.network | (self.average or {})


@dataclass(frozen=True, slots=True)
class BestValidation:
    """The best validation so far: its top-1 in percent, where it was, and the digest of its dataset."""

    top1: float
    position: Position
    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointContent:
    """What a checkpoint holds.

    Args:
        learner: tensors of the network and its optimiser.
        step: steps of the stage that are done.
        curve: all points so far, the oldest first.
        best: the best validation on the current validation set.
        bad: bad images since the training began.
        seen: all images since the training began.
        loss_sum: of the images since the last point of the curve, in nats.
        images: the number of these images.
    """

    learner: LearnerState
    step: int
    curve: tuple[CurvePoint, ...]
    best: BestValidation | None = None
    bad: int = 0
    seen: int = 0
    loss_sum: float = 0.0
    images: int = 0

    def to_stored(self) -> dict[str, Any]:
        """Tensors and plain values; the keys and their order are part of the format."""
        best = self.best
        return {
            "learner": {name: getattr(self.learner, name) for name in ("network", "optimiser", "scaler", "average")},
            "step": self.step,
            "curve": [point.to_stored() for point in self.curve],
            "best": best and (best.top1, best.position.stage, best.position.step, best.dataset),
            "bad": self.bad,
            "seen": self.seen,
            "loss": self.loss_sum,
            "images": self.images,
        }

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "CheckpointContent":
        """The content that `to_stored` wrote."""
        best = stored["best"]
        return cls(
            learner=LearnerState(**stored["learner"]),
            step=stored["step"],
            curve=tuple(map(CurvePoint.from_stored, stored["curve"])),
            best=BestValidation(best[0], Position(best[1], best[2]), best[3]) if best else None,
            bad=stored["bad"],
            seen=stored["seen"],
            loss_sum=stored["loss"],
            images=stored["images"],
        )


@dataclass(frozen=True, slots=True, order=True)
class Saved:
    """A stored checkpoint.

    Args:
        stage: number of the stage, counted from 0.
        step: steps of the stage that are done.
        complete: False where the validation after this step is still to be made; it may take longer than a job has
            left after a signal.
        sha256: of its bytes.
        uri: of the object.
    """

    stage: int
    step: int
    complete: bool
    sha256: str
    uri: str

    @property
    def position(self) -> Position:
        """The stage and the step."""
        return Position(self.stage, self.step)


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a training continues from; `damaged` has a message for each newer checkpoint that was skipped."""

    saved: Saved | None
    content: CheckpointContent | None
    damaged: tuple[str, ...]


def save(home: str, owner: str, position: Position, content: CheckpointContent, *, complete: bool, keep: int) -> Saved:
    """Write a checkpoint and remove those that are not needed any more.

    Args:
        home: folder or prefix of the training.
        owner: the job that writes.
        position: of the checkpoint.
        content: of the checkpoint.
        complete: see `Saved`.
        keep: see `prune`.

    Raises:
        NotOwnerError: if the training belongs to a job that was started later; nothing is written or removed.
        OSError: if the store cannot be written.
    """
    ownership.require(home, owner)
    saved = write(home, position, content, complete=complete)
    prune(home, saved, keep, content.best and content.best.position)
    return saved


def write(home: str, position: Position, content: CheckpointContent, *, complete: bool = True) -> Saved:
    """Write a checkpoint into the folder or prefix `home` of a training.

    Raises:
        OSError: if the store cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content.to_stored(), buffer)
    data = buffer.getbuffer()
    digest = hashlib.sha256(data).hexdigest()
    uri = storage.join(home, _FOLDER, f"{position.stage}-{position.step:09d}-{int(complete)}-{digest}.pt")
    try:
        storage.put(uri, data)
    except FileExistsError:  # the same name with other bytes: that object is damaged
        storage.replace(uri, data)
    return Saved(position.stage, position.step, complete, digest, uri)


def listed(home: str) -> list[Saved]:
    """The checkpoints of a training, the oldest first."""
    found = []
    for entry in storage.list_objects(storage.join(home, _FOLDER)):
        if match := _NAME.fullmatch(entry.uri.rpartition("/")[2]):
            found.append(Saved(int(match[1]), int(match[2]), match[3] == "1", match[4], entry.uri))
    return sorted(found)


def newest(home: str) -> Resumed:
    """The newest checkpoint that is not damaged."""
    damaged: list[str] = []
    for saved in reversed(listed(home)):
        try:
            return Resumed(saved, load(saved), tuple(damaged))
        except ValueError as error:
            damaged.append(str(error))
        except FileNotFoundError:  # another driver has just removed it
            continue
    return Resumed(None, None, tuple(damaged))


def load(saved: Saved) -> CheckpointContent:
    """The content of a checkpoint, on the CPU.

    Raises:
        ValueError: if it is damaged.
        FileNotFoundError: if it does not exist.
    """
    data = storage.read(saved.uri)
    if hashlib.sha256(data).hexdigest() != saved.sha256:
        raise ValueError(f"{saved.uri} is damaged: its SHA-256 is not the one in its name")
    return CheckpointContent.from_stored(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))


def prune(home: str, written: Saved, keep: int, best: Position | None) -> None:
    """Remove all checkpoints but the last ones and the best.

    Those beyond `written` were skipped as damaged when the training continued. Of a step that is there with and without
    its validation, the incomplete one goes.

    Args:
        home: folder or prefix of the training.
        written: the checkpoint that was just written.
        keep: the number of last ones to keep, `written` included.
        best: position of the best validation.
    """
    there = listed(home)
    complete = {saved.position for saved in there if saved.complete}
    sound = [saved for saved in there if saved <= written and (saved.complete or saved.position not in complete)]
    kept = {*sound[-keep:], *(saved for saved in sound if saved.position == best)}
    storage.remove([saved.uri for saved in there if saved not in kept])
