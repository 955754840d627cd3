"""Which job a training belongs to: the one that began last.

    STORE/training/NAME/job.json

Owns that a job which was thought dead, or whose workers outlive it, does not write over what a later one has written;
and that workers see the driver's store: a folder of one node is not that of another.
"""

import json
import uuid

from pipelines import storage

_NAME = "job.json"


def take(home: str) -> str:
    """Take the training at `home` over; the token by which its workers are known."""
    token = uuid.uuid4().hex
    storage.replace(storage.join(home, _NAME), (json.dumps({"token": token}) + "\n").encode())
    return token


def is_held(home: str, token: str) -> bool:
    """Whether the training at `home` belongs to the job of this token."""
    try:
        return json.loads(storage.read(storage.join(home, _NAME)))["token"] == token
    except FileNotFoundError:
        return False
