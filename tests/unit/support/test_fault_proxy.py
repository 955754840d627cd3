"""The fault proxy does what it says and nothing else: seen by boto3 and http.client, in front of real servers."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from pipelines import storage
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.servers import RcloneServer

BUCKET = "menagerie-tests"
BODY = bytes(range(256)) * 40


def client(url: str, **options: Any) -> Any:
    """A client that tries once."""
    config: Any = {"retries": {"mode": "standard", "total_max_attempts": 1}, "read_timeout": 5}
    return boto3.client("s3", endpoint_url=url, config=Config(**config | options))


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


def bits_that_differ(one: bytes, other: bytes) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


def keys_below(client: Any, prefix: str) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]


def test_without_faults_the_answers_are_the_servers(direct: Any, faulty: Any, proxy: FaultProxy) -> None:
    assert faulty.put_object(Bucket=BUCKET, Key="plain/a", Body=BODY)["ETag"]
    for ask in (
        lambda client: client.get_object(Bucket=BUCKET, Key="plain/a")["Body"].read(),
        lambda client: client.get_object(Bucket=BUCKET, Key="plain/a", Range="bytes=5-9")["Body"].read(),
        lambda client: {**client.head_object(Bucket=BUCKET, Key="plain/a"), "ResponseMetadata": 0},
        lambda client: keys_below(client, "plain/"),
    ):
        assert ask(direct) == ask(faulty)
    with pytest.raises(ClientError, match="304"):
        faulty.get_object(
            Bucket=BUCKET, Key="plain/a", IfNoneMatch=faulty.head_object(Bucket=BUCKET, Key="plain/a")["ETag"]
        )
    faulty.delete_object(Bucket=BUCKET, Key="plain/a")
    with pytest.raises(ClientError, match="NoSuchKey"):
        faulty.get_object(Bucket=BUCKET, Key="plain/a")
    assert proxy.seen[0] == f"PUT /{BUCKET}/plain/a"
    assert proxy.seen[-2:] == [f"DELETE /{BUCKET}/plain/a", f"GET /{BUCKET}/plain/a"]
    assert not proxy.counts


def test_signatures_hold_and_wrong_ones_are_refused(rclone_server: RcloneServer) -> None:
    with FaultProxy(rclone_server.url) as proxy:
        client(proxy.url).put_object(Bucket=BUCKET, Key="signed/a b+ü%.bin", Body=BODY)
        assert (rclone_server.root / BUCKET / "signed" / "a b+ü%.bin").read_bytes() == BODY
        wrong = boto3.client(
            "s3",
            endpoint_url=proxy.url,
            aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key="wrong",
        )
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            wrong.list_objects_v2(Bucket=BUCKET)


def test_chunked_answers_arrive_whole(rclone_server: RcloneServer) -> None:
    direct = client(rclone_server.url)
    for number in range(20):  # a list too long for Go to count beforehand
        direct.put_object(Bucket=BUCKET, Key=f"chunked/{number}", Body=b"")
    with FaultProxy(rclone_server.url) as proxy:
        there, here = (
            client(url).list_objects_v2(Bucket=BUCKET, Prefix="chunked/") for url in (rclone_server.url, proxy.url)
        )
    assert there["ResponseMetadata"]["HTTPHeaders"]["transfer-encoding"] == "chunked"
    assert int(here["ResponseMetadata"]["HTTPHeaders"]["content-length"]) > 2000
    assert here["Contents"] == there["Contents"]


def test_chunked_requests_arrive_whole(proxy: FaultProxy, faulty: Any, direct: Any) -> None:
    url = urlsplit(faulty.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "chunked"}))
    with closing(HTTPConnection(url.netloc)) as connection:
        for _ in range(2):
            connection.request("PUT", f"{url.path}?{url.query}", iter([BODY, b"more"]), encode_chunked=True)
            assert connection.getresponse().read() == b""
    assert direct.get_object(Bucket=BUCKET, Key="chunked")["Body"].read() == BODY + b"more"


def test_a_connection_is_kept_also_after_an_error(proxy: FaultProxy, get: Callable[[], HTTPResponse]) -> None:
    proxy.faults.append(Fault("status", times=1))
    for expected in (503, 200, 200):
        answer = get()
        assert (answer.status, answer.will_close) == (expected, False)
        answer.read()


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


def test_the_first_fault_that_applies_is_the_only_one(proxy: FaultProxy, get: Callable[[], HTTPResponse]) -> None:
    proxy.faults += [
        Fault("reset", match="^PUT "),
        Fault("reset", probability=0.0),
        Fault("status", match=r"^GET /menagerie-tests/.*\?", argument=500, times=1),
        Fault("status", argument=503, times=1),
    ]
    statuses = []
    for _ in range(3):
        answer = get()
        statuses.append(answer.status)
        answer.read()
    assert statuses == [500, 503, 200]
    assert proxy.counts == {"status": 2}


def test_faults_of_the_body_pass_over_answers_without_one(proxy: FaultProxy, faulty: Any, key: str) -> None:
    proxy.faults.append(Fault("truncate", times=1))
    assert faulty.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == len(BODY)
    faulty.delete_object(Bucket=BUCKET, Key="nothing")
    assert +proxy.counts == {}
    with pytest.raises(ResponseStreamingError):
        faulty.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def test_many_threads_see_the_faults_that_are_counted(proxy: FaultProxy, faulty: Any, key: str) -> None:
    proxy.faults.append(Fault("status", probability=0.3, argument=500))

    def fails(_: int) -> bool:
        try:
            return faulty.get_object(Bucket=BUCKET, Key=key)["Body"].read() != BODY
        except ClientError:
            return True

    with ThreadPoolExecutor(8) as pool:
        failed = sum(pool.map(fails, range(100)))
    assert failed == proxy.counts["status"]
    assert 10 < failed < 50
    assert len(proxy.seen) == 100


def test_a_server_that_is_gone_is_a_reset_connection() -> None:
    with FaultProxy("http://127.0.0.1:9") as proxy, pytest.raises(ConnectionClosedError):
        client(proxy.url).list_objects_v2(Bucket=BUCKET)


def test_leaving_ends_idle_connections_and_threads() -> None:
    running = threading.active_count()
    with FaultProxy("http://127.0.0.1:9") as proxy, closing(HTTPConnection(urlsplit(proxy.url).netloc)) as idle:
        proxy.faults.append(Fault("status"))
        idle.request("GET", "/")
        idle.getresponse().read()
        assert threading.active_count() > running
        proxy.__exit__()
        assert idle.sock.recv(1) == b""
    assert threading.active_count() == running


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "stutter"}, r"unknown kind of fault 'stutter'; known: after, before"),
        ({"kind": "hang"}, "'hang' needs an argument above 0"),
        ({"kind": "after"}, "need a `call`"),
        ({"kind": "reset", "call": print}, "no other kind takes one"),
    ],
)
def test_an_impossible_fault_is_refused(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**fault)


def test_our_storage_reaches_the_store_through_the_proxy(faulty_s3: tuple[str, FaultProxy]) -> None:
    uri, proxy = faulty_s3
    proxy.faults.append(Fault("status", match="^PUT", times=2))
    assert storage.put(f"{uri}/cell", b"rows")
    assert storage.read(f"{uri}/cell") == b"rows"
    assert proxy.counts == {"status": 2}
