"""Ownership of a training's folder: only the job that was started last may write checkpoints.

    STORE/training/NAME/job.json

A job that was believed dead, or workers that outlive their job, cannot overwrite what a later job has written. The same
check shows that the workers see the driver's store: a local folder of one node is not that of another.
"""

import json
import uuid

from pipelines import storage

_NAME = "job.json"


class NotOwnerError(ValueError):
    """A training's folder does not belong to the job that wants to write into it."""


def take(home: str) -> str:
    """Take over the training at `home`; returns the new owner, by which its workers are known."""
    owner = uuid.uuid4().hex
    storage.replace(storage.join(home, _NAME), (json.dumps({"token": owner}) + "\n").encode())
    return owner


def require(home: str, owner: str) -> None:
    """Check that the training at `home` belongs to `owner`.

    Raises:
        NotOwnerError: if it does not.
    """
    if not _is_held(home, owner):
        raise NotOwnerError(
            f"{home}: the workers do not see what the driver wrote there: either not every node reaches this store, "
            "or another job has taken over this training"
        )


def _is_held(home: str, owner: str) -> bool:
    try:
        return json.loads(storage.read(storage.join(home, _NAME)))["token"] == owner
    except FileNotFoundError:
        return False
