"""What an error of S3 means: whether another attempt may help, and one line that names the fault.

Every error becomes a built-in exception, as a local file would raise it, or a subclass. The text of a server's own
message is never repeated, since it may hold an access key.
"""

# boto3 carries no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

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
"""BadDigest and the two mismatches: a bit flipped on the way to the store. The conflict (409): another write of the
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
"""No answer, an answer that ended early or arrived damaged, or no new credentials from the service that gives them.
Reading the body of an answer raises urllib3's own errors."""
_NOT_TRANSIENT = (sdk.SSLError, sdk.ProxyConnectionError)
MEANINGS = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "these credentials do not allow it",
    "InvalidAccessKeyId": "the store does not know this access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the credentials have expired; renew them",
    "TokenRefreshRequired": "the credentials have expired; renew them",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "400": "rejected without a reason; expired credentials, or another region?",
    "403": "rejected without a reason; unknown keys, or no right to do this?",
}
_NOT_PUBLIC = dict.fromkeys(
    ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "UnsupportedAlgorithm"),
    "it does not answer requests without credentials (--no-sign-request, anonymous@)",
)
_OF_ALL = frozenset(
    {
        *("NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        "RequestTimeTooSkewed",
    }
)
"""Faults of the bucket or the keys: messages name the bucket instead of the object."""
_OTHER_REGION = frozenset(
    {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_UNREACHED = {"refused": "connection refused", "resolve": "no such host", "Name or service": "no such host"}


class UnavailableError(OSError):
    """The store gave no good answer in time, but may later: unreachable, overloaded, or with broken answers."""


class DamagedError(OSError):
    """The object's bytes do not match its checksum, however often they are read."""


class UnsupportedError(OSError):
    """The store does not support the request."""


class DeniedError(PermissionError):
    """Our credentials do not allow the request. If they do not allow listing either, absent objects raise this, too."""


class ConflictError(UnavailableError):
    """Another write of the same object came first, and our upload is void."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    if isinstance(error, sdk.ClientError):
        return code_of(error) in TRANSIENT_CODES or status_of(error) in TRANSIENT_STATUS
    if isinstance(error, _NOT_TRANSIENT) or isinstance(error.__cause__, ssl.SSLError):
        return False
    # Some stores send an error whose headers hold the checksum of an object, which the SDK cannot parse.
    return isinstance(error, TRANSIENT_ERRORS) or "StreamingChecksumBody" in str(error)


def code_of(error: sdk.ClientError) -> str:
    """The store's code for the error, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def status_of(error: sdk.ClientError) -> int:
    """The HTTP status of the answer, or 0 if it has none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


_KINDS: dict[int, type[Exception]] = {
    403: PermissionError,
    404: FileNotFoundError,
    412: FileExistsError,
    501: UnsupportedError,
}


def translated(error: BaseException, uri: str) -> Exception:
    """The built-in exception that a local file would have raised; it names the object and the store's code."""
    if not isinstance(error, sdk.ClientError):
        return _without_answer(error, uri)
    kind = _KINDS.get(status_of(error), OSError)
    kind = DeniedError if code_of(error) in {"AccessDenied", "403"} else kind
    kind = UnavailableError if is_transient(error) else kind
    meanings = MEANINGS | (_NOT_PUBLIC if "//anonymous@" in uri else {})
    meaning = _region(error) if code_of(error) in _OTHER_REGION else meanings.get(code_of(error))
    where = _bucket(uri) if code_of(error) in _OF_ALL else uri
    return kind(f"{where}: {code_of(error)} ({status_of(error)})" + (f": {meaning}" if meaning else ""))


def _without_answer(error: BaseException, uri: str) -> OSError:
    if isinstance(error, sdk.NoCredentialsError | sdk.PartialCredentialsError):
        return PermissionError(
            f"{uri}: no credentials found; set AWS_ACCESS_KEY_ID and so on, or AWS_PROFILE; data in a public bucket "
            "needs none with --no-sign-request"
        )
    if isinstance(error, sdk.CredentialRetrievalError):
        return without_credentials(uri, error)
    if isinstance(error, sdk.EndpointConnectionError | sdk.ConnectTimeoutError):
        return UnavailableError(f"{_bucket(uri)}: {_not_reached(error)}")
    if isinstance(error, sdk.FlexibleChecksumError):
        return DamagedError(f"{uri}: its bytes do not match the checksum that the store keeps with it")
    kind = UnavailableError if is_transient(error) else OSError
    return kind(f"{uri}: {one_line(error) or type(error).__name__}")


def without_credentials(uri: str, error: sdk.CredentialRetrievalError) -> UnavailableError:
    """The error for credentials that a service or program did not give; what it printed may be secret."""
    return UnavailableError(f"{uri}: no credentials from {error.kwargs.get('provider')}; is it away or overloaded?")


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
    return f"the bucket is in another region; set AWS_DEFAULT_REGION{'=' + where if where else ''}"
