"""The S3 client of this process: its time limits, its credentials, and the few calls that storage makes.

Credentials come from the standard AWS chain, the endpoint from AWS_ENDPOINT_URL. A URI `s3://anonymous@bucket/key`, as
Arrow writes it, names an object of a public bucket that is read without them. The SDK's own retries are off:
`s3_retries.persist` makes every request.
"""

# boto3 carries no types; what it returns is given types here.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Callable
from datetime import datetime
from functools import cache
from threading import Lock
from typing import Any, Protocol, cast

from boto3.session import Session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, CredentialRetrievalError
from botocore.session import get_session
from botocore.utils import parse_timestamp

from pipelines.storage import s3_errors

S3 = "s3://"
ANONYMOUS = f"{S3}anonymous@"
"""How the URI of an object begins that is read with requests without a signature."""
Answer = dict[str, Any]
"""What a store answers, by the names of S3's API."""
Call = Callable[..., Answer]
_CONNECT_SECONDS, _READ_SECONDS = 5, 20
_CONNECTIONS = 32
_making = Lock()
"""Held while a client is made, which takes a while: many threads may ask for the first one at once."""


class _Config(Protocol):
    request_checksum_calculation: str


class _Meta(Protocol):
    config: _Config


class Client(Protocol):
    """The calls of boto3's client that storage makes, each with the parameters of S3's API."""

    meta: _Meta
    head_object: Call
    get_object: Call
    put_object: Call
    delete_objects: Call
    list_objects_v2: Call
    create_multipart_upload: Call
    upload_part: Call
    complete_multipart_upload: Call
    abort_multipart_upload: Call
    list_multipart_uploads: Call


def client(*, signed: bool = True) -> Client:
    """The client of this process; one without credentials where requests are not `signed`.

    Raises:
        OSError: if the settings of AWS cannot be used.
    """
    with _making:
        return _client(**_signature(signed))


def range_client(*, signed: bool = True) -> Client:
    """A client for ranges of objects: some stores send the checksum of the whole object along with a range of it."""
    with _making:
        return _client(response_checksum_validation="when_required", **_signature(signed))


def _signature(signed: bool) -> dict[str, Any]:
    return {} if signed else {"signature_version": UNSIGNED}


def forget() -> None:
    """Forget all clients, for when the environment names another store."""
    _client.cache_clear()


def _time(value: Any) -> datetime:
    """A time as a store writes it. The SDK's own parser takes two thirds of the time of a long listing."""
    try:
        return datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return parse_timestamp(value)


@cache
def _client(**options: Any) -> Client:
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 1},
        **options,
    )
    core = get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    try:  # boto3's own session would keep old credentials
        return cast(Client, Session(botocore_session=core).client("s3", config=config))
    except CredentialRetrievalError as error:
        raise s3_errors.without_credentials("the AWS settings", error) from error
    except BotoCoreError as error:
        raise PermissionError(f"the AWS settings cannot be used: {error}") from error
    except ValueError as error:  # its message repeats the setting, perhaps with a password
        raise OSError("AWS_ENDPOINT_URL is no URL of a store; expected http://HOST:PORT or https://HOST") from error
