"""Fixtures of tests of the fault proxy: the store itself, the proxy before it, and clients of both."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.plain_s3 import BODY, client
from tests.support.servers import BUCKET


@pytest.fixture
def direct(s3_server: str) -> Any:
    """The store itself, past the proxy."""
    return client(os.environ["AWS_ENDPOINT_URL"])


@pytest.fixture
def proxy(s3_server: str) -> Iterator[FaultProxy]:
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        yield proxy


@pytest.fixture
def faulty(proxy: FaultProxy) -> Any:
    """The store through the proxy."""
    return client(proxy.url)


@pytest.fixture
def key(request: pytest.FixtureRequest, direct: Any) -> str:
    """An object that is there: BODY."""
    direct.put_object(Bucket=BUCKET, Key=request.node.name, Body=BODY)
    return request.node.name


@pytest.fixture
def get(proxy: FaultProxy, faulty: Any, key: str) -> Iterator[Callable[[], HTTPResponse]]:
    """Asks for the object of `key` on one plain connection to the proxy."""
    url = urlsplit(faulty.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key}))
    with closing(HTTPConnection(url.netloc, timeout=5)) as connection:

        def ask() -> HTTPResponse:
            connection.request("GET", f"{url.path}?{url.query}")
            return connection.getresponse()

        yield ask
