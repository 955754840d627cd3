"""Retries of requests to S3, for as long as they may help.

This is the only policy of retries: the SDK's own are off, so that two never multiply. Errors that another attempt
cannot mend are raised at once.
"""

# boto3 carries no types:
# pyright: reportMissingTypeStubs=false

import logging
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

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
"""For a store that has never answered: its name is more likely wrong than the store overloaded."""
_LONGEST_PAUSE = 5.0
_STILL_EXPIRED = "still expired"
"""In the message of the SDK's bare RuntimeError when it is given new credentials that have expired."""
_DAMAGED_READS = 5
_QUIET_SECONDS, _EVERY_SECONDS = 5.0, 10.0
_warned_at = [float("-inf")]
_log = logging.getLogger(__name__)
_answering: set[str] = set()
_chance = random.Random()
"""A generator of its own: pauses in a thread never change what a program draws from the global one after its seed."""

T = TypeVar("T")


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds to wait: any up to a bound that doubles with each attempt, so that clients do not return together."""
    return _chance.uniform(0, min(_LONGEST_PAUSE, 0.1 * 2 ** min(state.attempt_number - 1, 16)))


def _warn(uri: str, state: tenacity.RetryCallState) -> None:
    """Log that a request is being retried: after some seconds, and for one of many simultaneous requests."""
    now = time.monotonic()
    if (state.seconds_since_start or 0) < _QUIET_SECONDS or now - _warned_at[0] < _EVERY_SECONDS:
        return
    _warned_at[0] = now
    error = state.outcome.exception() if state.outcome else None
    if error:
        _log.warning("%s; trying again for a while", translated(error, uri))


class _StopDamaged(stop_base):
    """Gives up an object whose checksum is wrong again and again: patience does not mend it."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return isinstance(error, sdk.FlexibleChecksumError) and retry_state.attempt_number >= _DAMAGED_READS


def persist(uri: str, call: Callable[..., T], **request: object) -> T:
    """Call `call` with `request`, again while the store's errors are transient, after pauses of random length.

    Args:
        uri: the object or bucket, for messages.
        call: a method of the client, or a function that uses one.
        request: its parameters.

    Returns:
        What `call` returns.

    Raises:
        UnavailableError: if the errors last a minute, or some seconds if the store has never answered.
        DamagedError: if the bytes do not match the object's checksum in any of several attempts.
        UnsupportedError: if the store does not support the request.
        DeniedError: if the credentials do not allow it.
        FileNotFoundError, PermissionError, OSError: for any other error, at once, in one line that names the object.
        FileExistsError: if a condition of the request does not hold.
    """
    bucket = uri.removeprefix("s3://").partition("/")[0]
    patience = _PATIENCE_SECONDS if bucket in _answering else _FIRST_SECONDS
    retrying = tenacity.Retrying(
        before_sleep=partial(_warn, uri),
        retry=tenacity.retry_if_exception(is_transient),
        wait=_pause,
        # One attempt may take as long as all are meant to, so three are made in any case.
        stop=tenacity.stop_after_attempt(3) & (tenacity.stop_after_delay(patience) | _StopDamaged()),
        reraise=True,
    )
    try:
        result = retrying(call, **request)
    except (sdk.ClientError, sdk.BotoCoreError, AttributeError, *TRANSIENT_ERRORS) as error:
        if isinstance(error, AttributeError) and not is_transient(error):
            raise  # our own bug
        if isinstance(error, sdk.ClientError) and not is_transient(error):
            _answering.add(bucket)  # an error is an answer, too
        raise translated(error, uri) from error
    except RuntimeError as error:
        if _STILL_EXPIRED not in str(error):
            raise
        raise PermissionError(f"{uri}: {MEANINGS['ExpiredToken']}") from error
    _answering.add(bucket)
    return result


@contextmanager
def without_waiting_for_conflicts(uri: str) -> Generator[None]:
    """Raise a conflict of writers (409) as a `ConflictError`, which `persist` does not retry."""
    try:
        yield
    except sdk.ClientError as error:
        if status_of(error) != 409:
            raise
        raise ConflictError(f"{uri}: {code_of(error)} (409): another write came first") from error


def forget() -> None:
    """Forget which stores have answered, for when the environment names another."""
    _answering.clear()
