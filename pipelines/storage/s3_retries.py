"""How long we go on asking a store that does not do what it was asked.

Owns the one policy of retries: the SDK's own are off, so that two never multiply. Refuses to retry what no patience
mends.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import tenacity
from botocore import exceptions as sdk
from tenacity.stop import stop_base

from pipelines.storage.s3_errors import (
    MEANINGS,
    TRANSIENT_ERRORS,
    ConflictError,
    code_of,
    is_transient,
    status_of,
    translated,
)

_PATIENCE_SECONDS = 60.0
_FIRST_SECONDS = 8.0
"""A store that has not answered yet is more likely misnamed than overloaded, and nobody wants to wait for that."""
_LONGEST_PAUSE = 5.0
_STILL_EXPIRED = "still expired"
"""How the SDK's bare RuntimeError ends where new credentials came that are old."""
_DAMAGED_READS = 5
_QUIET_SECONDS, _EVERY_SECONDS = 5.0, 10.0
_said_at = [float("-inf")]
_log = logging.getLogger(__name__)
_answering: set[str] = set()

T = TypeVar("T")


def _say(uri: str, state: tenacity.RetryCallState) -> None:
    """That something is waited for, once it has been for seconds, and not for each of many requests at once."""
    now = time.monotonic()
    if (state.seconds_since_start or 0) < _QUIET_SECONDS or now - _said_at[0] < _EVERY_SECONDS:
        return
    _said_at[0] = now
    error = state.outcome.exception() if state.outcome else None
    if error:
        _log.warning("%s; trying again for a while", translated(error, uri))


class _StopDamaged(stop_base):
    """Where a wrong checksum comes again and again, more patience does not mend the object."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return isinstance(error, sdk.FlexibleChecksumError) and retry_state.attempt_number >= _DAMAGED_READS


def persist(uri: str, call: Callable[..., T], **request: Any) -> T:
    """What `call` returns to `request`, tried again while the store's errors are transient, with pauses at random.

    Raises:
        UnavailableError: if they stay so for a minute, or for seconds where the store has never answered.
        DamagedError: if what comes does not match the object's checksum, time and again.
        UnsupportedError: if the store does not know what it was asked.
        DeniedError: if it may not be done with these credentials.
        FileNotFoundError, PermissionError, OSError: for every other error, at once; one line, naming the object.
        FileExistsError: if a condition does not hold.
    """
    bucket = uri.removeprefix("s3://").partition("/")[0]
    patience = _PATIENCE_SECONDS if bucket in _answering else _FIRST_SECONDS
    retrying = tenacity.Retrying(
        before_sleep=partial(_say, uri),
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE),
        # One attempt may last as long as all should: a few are made in any case.
        stop=tenacity.stop_after_attempt(3) & (tenacity.stop_after_delay(patience) | _StopDamaged()),
        reraise=True,
    )
    try:
        result = retrying(call, **request)
    except (sdk.ClientError, sdk.BotoCoreError, AttributeError, *TRANSIENT_ERRORS) as error:
        if isinstance(error, AttributeError) and not is_transient(error):
            raise  # a bug of ours
        if isinstance(error, sdk.ClientError) and not is_transient(error):
            _answering.add(bucket)  # a refusal is an answer
        raise translated(error, uri) from error
    except RuntimeError as error:
        if _STILL_EXPIRED not in str(error):
            raise
        raise PermissionError(f"{uri}: {MEANINGS['ExpiredToken']}") from error
    _answering.add(bucket)
    return result


@contextmanager
def conflicts_end(uri: str) -> Iterator[None]:
    """Within, a conflict of writers (409) is a `ConflictError`, which nobody waits out."""
    try:
        yield
    except sdk.ClientError as error:
        if status_of(error) != 409:
            raise
        raise ConflictError(f"{uri}: {code_of(error)} (409): another's write came between") from error


def forget() -> None:
    """Forget which stores have answered."""
    _answering.clear()
