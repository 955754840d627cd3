"""Covers tests.support.fault_proxy: what is not at fault passes unchanged, and which request suffers which fault."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ResponseStreamingError,
)

from pipelines import storage
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.plain_s3 import BODY, client, keys_below
from tests.support.servers import BUCKET, RcloneServer


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
