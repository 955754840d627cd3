"""What an error of S3 means: whether it may be over soon, and one line that says what is wrong.

Owns the list of transient errors, and the built-in exceptions that the others become. Refuses to repeat what a server's
message says, where an access key's identity may stand.
"""

import ssl
from urllib.parse import urlsplit

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pipelines.messages import one_line

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
MEANINGS = {
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
_OF_ALL = frozenset(
    {
        *("NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        "RequestTimeTooSkewed",
    }
)
"""What is wrong with the bucket or the keys: the object at hand has nothing to do with it."""
_OTHER_REGION = frozenset(
    {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_UNREACHED = {"refused": "connection refused", "resolve": "no such host", "Name or service": "no such host"}


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


def is_transient(error: BaseException) -> bool:
    """Whether the same request may be answered well in a moment."""
    if isinstance(error, sdk.ClientError):
        return code_of(error) in TRANSIENT_CODES or status_of(error) in TRANSIENT_STATUS
    if isinstance(error, _NOT_TRANSIENT) or isinstance(error.__cause__, ssl.SSLError):
        return False
    # The SDK trips over an error whose headers hold the checksum of an object, which some stores send.
    return isinstance(error, TRANSIENT_ERRORS) or "StreamingChecksumBody" in str(error)


def code_of(error: sdk.ClientError) -> str:
    """The store's own word for the error."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def status_of(error: sdk.ClientError) -> int:
    """The HTTP status, 0 where there was none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


_KINDS: dict[int, type[Exception]] = {
    403: PermissionError,
    404: FileNotFoundError,
    412: FileExistsError,
    501: UnsupportedError,
}


def translated(error: BaseException, uri: str) -> Exception:
    """The built-in exception that a local file would have raised, naming the object and the store's own word."""
    if not isinstance(error, sdk.ClientError):
        return _without_answer(error, uri)
    kind = _KINDS.get(status_of(error), OSError)
    kind = DeniedError if code_of(error) in {"AccessDenied", "403"} else kind
    kind = UnavailableError if is_transient(error) else kind
    meaning = _region(error) if code_of(error) in _OTHER_REGION else MEANINGS.get(code_of(error))
    where = _bucket(uri) if code_of(error) in _OF_ALL else uri
    return kind(f"{where}: {code_of(error)} ({status_of(error)})" + (f": {meaning}" if meaning else ""))


def _without_answer(error: BaseException, uri: str) -> OSError:
    if isinstance(error, sdk.NoCredentialsError | sdk.PartialCredentialsError):
        return PermissionError(f"{uri}: no credentials found; set AWS_ACCESS_KEY_ID and so on, or AWS_PROFILE")
    if isinstance(error, sdk.CredentialRetrievalError):
        return without_credentials(uri, error)
    if isinstance(error, sdk.EndpointConnectionError | sdk.ConnectTimeoutError):
        return UnavailableError(f"{_bucket(uri)}: {_not_reached(error)}")
    if isinstance(error, sdk.FlexibleChecksumError):
        return DamagedError(f"{uri}: its bytes do not match the checksum that the store keeps with it")
    kind = UnavailableError if is_transient(error) else OSError
    return kind(f"{uri}: {one_line(error) or type(error).__name__}")


def without_credentials(uri: str, error: sdk.CredentialRetrievalError) -> UnavailableError:
    """That a service or a helper program gave none; what it printed may be a secret."""
    return UnavailableError(f"{uri}: no credentials came from {error.kwargs.get('provider')}; away, or overloaded?")


def _bucket(uri: str) -> str:
    return f"s3://{uri.removeprefix('s3://').partition('/')[0]}"


def _not_reached(error: sdk.EndpointConnectionError | sdk.ConnectTimeoutError) -> str:
    url = urlsplit(str(error.kwargs.get("endpoint_url")))
    reason = str(error.kwargs.get("error") or "")
    why = next((words for sign, words in _UNREACHED.items() if sign in reason), "no answer")
    return (
        f"cannot connect to {url.scheme}://{url.hostname}:{url.port or ''}".rstrip(":") + f" (AWS_ENDPOINT_URL): {why}"
    )


def _region(error: sdk.ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    where = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
    return f"the bucket lies in another region; set AWS_DEFAULT_REGION{'=' + where if where else ''}"
