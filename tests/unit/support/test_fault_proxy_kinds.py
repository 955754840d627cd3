"""Covers tests.support.fault_proxy: what a client and the server see of each kind of fault."""

import os
import time
from collections.abc import Callable
from http.client import HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.plain_s3 import BODY, client, keys_below
from tests.support.servers import BUCKET


def bits_that_differ(one: bytes, other: bytes) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")])
def test_status_is_an_s3_error_and_the_request_is_not_executed(
    status: int, code: str, proxy: FaultProxy, faulty: Any, direct: Any
) -> None:
    proxy.faults.append(Fault("status", argument=status))
    with pytest.raises(ClientError) as error:
        faulty.put_object(Bucket=BUCKET, Key=f"status/{status}", Body=BODY)
    assert (error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]) == (
        code,
        status,
    )
    with pytest.raises(ClientError, match=str(status)):
        faulty.head_object(Bucket=BUCKET, Key="status")
    assert keys_below(direct, f"status/{status}") == []
    assert proxy.counts == {"status": 2}


def test_reset_executes_nothing(proxy: FaultProxy, faulty: Any, direct: Any, get: Callable[[], HTTPResponse]) -> None:
    proxy.faults.append(Fault("reset"))
    with pytest.raises(ConnectionResetError):
        get()
    with pytest.raises(ConnectionClosedError):
        faulty.put_object(Bucket=BUCKET, Key="reset", Body=BODY)
    assert keys_below(direct, "reset") == []


def test_hang_is_silence_and_then_the_end(proxy: FaultProxy, get: Callable[[], HTTPResponse]) -> None:
    proxy.faults.append(Fault("hang", argument=0.3))
    started = time.monotonic()
    with pytest.raises(RemoteDisconnected):
        get()
    assert 0.3 <= time.monotonic() - started < 2


def test_a_client_that_waits_less_gives_up_and_leaving_ends_what_hangs(proxy: FaultProxy, key: str) -> None:
    impatient = client(proxy.url, read_timeout=0.2)
    proxy.faults.append(Fault("hang", argument=60))
    started = time.monotonic()
    with pytest.raises(ReadTimeoutError):
        impatient.get_object(Bucket=BUCKET, Key=key)
    proxy.__exit__()
    assert time.monotonic() - started < 2


def test_stall_pauses_in_the_middle_of_the_body(proxy: FaultProxy, get: Callable[[], HTTPResponse]) -> None:
    proxy.faults.append(Fault("stall", argument=0.6))
    answer = get()
    started = time.monotonic()
    assert answer.read(len(BODY) // 2) == BODY[: len(BODY) // 2]
    assert time.monotonic() - started < 0.5
    assert answer.read() == BODY[len(BODY) // 2 :]
    assert time.monotonic() - started >= 0.55


def test_slow_comes_whole_at_its_rate(proxy: FaultProxy, get: Callable[[], HTTPResponse]) -> None:
    proxy.faults.append(Fault("slow", argument=20_000))
    started = time.monotonic()
    assert get().read() == BODY
    assert time.monotonic() - started >= len(BODY) / 20_000


def test_truncate_ends_before_its_content_length(
    proxy: FaultProxy, get: Callable[[], HTTPResponse], faulty: Any, key: str
) -> None:
    proxy.faults.append(Fault("truncate"))
    answer = get()
    assert answer.getheader("Content-Length") == str(len(BODY))
    with pytest.raises(IncompleteRead) as cut:
        answer.read()
    assert cut.value.partial == BODY[: len(BODY) // 2]
    with pytest.raises(ResponseStreamingError):
        faulty.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def test_bitflip_changes_one_bit_of_the_body_and_no_header(
    proxy: FaultProxy, get: Callable[[], HTTPResponse], faulty: Any, key: str
) -> None:
    before = get()
    assert before.read() == BODY
    proxy.faults.append(Fault("bitflip"))
    after = get()
    assert bits_that_differ(after.read(), BODY) == 1
    for name in (name for name, _ in before.getheaders() if name not in {"Date", "x-amzn-requestid"}):
        assert after.getheader(name) == before.getheader(name)
    with pytest.raises(FlexibleChecksumError):
        faulty.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def test_flip_up_changes_one_bit_of_what_is_stored(proxy: FaultProxy, faulty: Any, direct: Any, key: str) -> None:
    proxy.faults.append(Fault("flip_up", times=1))
    faulty.head_object(Bucket=BUCKET, Key=key)
    assert not proxy.counts  # a request without a body has no bit to flip
    faulty.put_object(Bucket=BUCKET, Key=key, Body=BODY)
    unchecked = client(os.environ["AWS_ENDPOINT_URL"], response_checksum_validation="when_required")
    assert bits_that_differ(unchecked.get_object(Bucket=BUCKET, Key=key)["Body"].read(), BODY) == 1


def test_lost_ack_executes_and_resets(proxy: FaultProxy, faulty: Any, direct: Any) -> None:
    proxy.faults.append(Fault("lost_ack", times=1))
    for error, match in ((ConnectionClosedError, "closed"), (ClientError, "PreconditionFailed")):
        with pytest.raises(error, match=match):
            faulty.put_object(Bucket=BUCKET, Key="lost", Body=BODY, IfNoneMatch="*")
    assert direct.get_object(Bucket=BUCKET, Key="lost")["Body"].read() == BODY
    direct.delete_object(Bucket=BUCKET, Key="lost")


def test_before_runs_ahead_of_the_request_and_after_behind_it(proxy: FaultProxy, faulty: Any, direct: Any) -> None:
    found: list[list[str]] = []
    for kind in ("before", "after"):
        proxy.faults.append(Fault(kind, match="^PUT", times=1, call=lambda: found.append(keys_below(direct, "order"))))
    faulty.put_object(Bucket=BUCKET, Key="order/1", Body=b"")
    faulty.put_object(Bucket=BUCKET, Key="order/2", Body=b"")
    assert found == [[], ["order/1", "order/2"]]
