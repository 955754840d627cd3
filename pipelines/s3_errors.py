"""What S3 answers when it does not do what was asked, and how long we go on asking.

Owns the list of errors that may be over by the next attempt, the one policy of retries (SDK's own are off, so that two
never multiply), and one line for each error that is not. Refuses to repeat what the store said beside its code: there a
key's identity may stand.
"""

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import tenacity
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from tenacity.stop import stop_base
from urllib3.exceptions import HTTPError

TRANSIENT_CODES = frozenset(
    {
        *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "BadDigest", "OperationAborted"),
        *(
            "ThrottlingException",
            "Throttling",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
        ),
        *("ConditionalRequestConflict", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"),
    }
)
"""BadDigest and the two mismatches: a bit flipped on the way to the store. The conflict (409): another's write of the
same object is under way, and nothing can be read back before it ends."""
TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
TRANSIENT_ERRORS = (
    sdk.ConnectionError,
    sdk.HTTPClientError,
    sdk.IncompleteReadError,
    sdk.FlexibleChecksumError,
    sdk.CredentialRetrievalError,
    ResponseParserError,
    HTTPError,
    ConnectionError,
    TimeoutError,
)
"""No answer, or one that ended early or arrived damaged; no new credentials, where a service is asked for them. What
the body of an answer raises is urllib3's own."""
_NOT_TRANSIENT = (sdk.SSLError, sdk.ProxyConnectionError)
_PATIENCE_SECONDS = 60.0
_FIRST_SECONDS = 8.0
"""A store that has not answered yet is more likely misnamed than overloaded, and nobody wants to wait for that."""
_LONGEST_PAUSE = 5.0
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "these credentials may not do this",
    "InvalidAccessKeyId": "the store does not know this access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the credentials have expired; renew them",
    "TokenRefreshRequired": "the credentials have expired; renew them",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "400": "refused without a reason; credentials expired, or another region?",
    "403": "refused without a reason; unknown keys, or no right to do this?",
}
_OTHER_REGION = frozenset(
    {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_STILL_EXPIRED = "still expired"
"""How the SDK's bare RuntimeError ends where new credentials came that are old."""
_LONGEST_SAID = 300
"""Where a web page answers in a store's place, the SDK repeats all of it."""
_SECRETS = re.compile(r"[^\s/]*@|\?\S*")
"""In URLs: keys before an @ (a misplaced user and password), and queries, where signatures may stand."""
_DAMAGED_READS = 5
_answering: set[str] = set()

T = TypeVar("T")


class UnavailableError(OSError):
    """The store did not do it in time, though it might later: it was away, overloaded, or its answers were broken."""


class DamagedError(OSError):
    """The object's bytes are not those of its checksum, each time that they are read."""


class UnsupportedError(OSError):
    """The store does not know what it was asked."""


class DeniedError(PermissionError):
    """We may not do this. Where we may not list either, the store says so of what is not there, too."""


class ConflictError(UnavailableError):
    """Another's write of the same object came between, and what we had begun is void."""


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
        retry=tenacity.retry_if_exception(_is_transient),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE),
        # One attempt may last as long as all should: a few are made in any case.
        stop=tenacity.stop_after_attempt(3) & (tenacity.stop_after_delay(patience) | _StopDamaged()),
        reraise=True,
    )
    try:
        result = retrying(call, **request)
    except (sdk.ClientError, sdk.BotoCoreError, *TRANSIENT_ERRORS) as error:
        if isinstance(error, sdk.ClientError) and not _is_transient(error):
            _answering.add(bucket)  # a refusal is an answer
        raise _translated(error, uri) from error
    except RuntimeError as error:
        if _STILL_EXPIRED not in str(error):
            raise
        raise PermissionError(f"{uri}: {_MEANINGS['ExpiredToken']}") from error
    _answering.add(bucket)
    return result


@contextmanager
def conflicts_end(uri: str) -> Iterator[None]:
    """Within, a conflict of writers (409) is a `ConflictError`, which nobody waits out."""
    try:
        yield
    except sdk.ClientError as error:
        if _status(error) != 409:
            raise
        raise ConflictError(f"{uri}: {_code(error)} (409): another's write came between") from error


def forget() -> None:
    """Forget which stores have answered."""
    _answering.clear()


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, sdk.ClientError):
        return _code(error) in TRANSIENT_CODES or _status(error) in TRANSIENT_STATUS
    if isinstance(error, _NOT_TRANSIENT) or isinstance(error.__cause__, ssl.SSLError):
        return False
    return isinstance(error, TRANSIENT_ERRORS)


def _code(error: sdk.ClientError) -> str:
    """The store's own word for the error."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _status(error: sdk.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


_KINDS: dict[int, type[Exception]] = {
    403: PermissionError,
    404: FileNotFoundError,
    412: FileExistsError,
    501: UnsupportedError,
}


def _translated(error: BaseException, uri: str) -> Exception:
    """The built-in exception that a local file would have raised, naming the object and the store's own word."""
    if not isinstance(error, sdk.ClientError):
        return _without_answer(error, uri)
    kind = _KINDS.get(_status(error), OSError)
    kind = DeniedError if _code(error) in {"AccessDenied", "403"} else kind
    kind = UnavailableError if _is_transient(error) else kind
    meaning = _region(error) if _code(error) in _OTHER_REGION else _MEANINGS.get(_code(error))
    return kind(f"{uri}: {_code(error)} ({_status(error)})" + (f": {meaning}" if meaning else ""))


def _without_answer(error: BaseException, uri: str) -> OSError:
    if isinstance(error, sdk.NoCredentialsError | sdk.PartialCredentialsError):
        return PermissionError(f"{uri}: no credentials found; set AWS_ACCESS_KEY_ID and so on, or AWS_PROFILE")
    if isinstance(error, sdk.CredentialRetrievalError):
        return without_credentials(uri, error)
    if isinstance(error, sdk.FlexibleChecksumError):
        return DamagedError(f"{uri}: its bytes do not match the checksum that the store keeps with it")
    kind = UnavailableError if _is_transient(error) else OSError
    said = " ".join(str(error).split()) or type(error).__name__
    return kind(f"{uri}: {_SECRETS.sub('', said)[:_LONGEST_SAID]}")


def without_credentials(uri: str, error: sdk.CredentialRetrievalError) -> UnavailableError:
    """That a service or a helper program gave none; what it printed may be a secret."""
    return UnavailableError(f"{uri}: no credentials came from {error.kwargs.get('provider')}; away, or overloaded?")


def _region(error: sdk.ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    where = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
    return f"the bucket lies in another region; set AWS_DEFAULT_REGION{'=' + where if where else ''}"
