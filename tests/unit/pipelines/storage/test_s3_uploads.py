"""Covers pipelines.storage.s3_write: uploads in parts are whole or leave nothing, whatever fails in between."""

import os
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from pipelines import storage
from pipelines.storage import s3_read
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.s3_objects import CONTENT, LARGE, content, put_in_parts
from tests.support.servers import BUCKET, RcloneServer

pytestmark = pytest.mark.usefixtures("small_parts")


def test_a_part_that_fails_three_times_is_the_only_one_sent_again(folder: str, proxy: FaultProxy) -> None:
    proxy.faults.append(Fault("reset", match="partNumber=1", times=3))
    put_in_parts(folder)
    parts = [name.split("partNumber=")[1][:1] for name in proxy.seen if "partNumber=" in name]
    assert parts == ["1", "1", "1", "1", "2"]
    assert content(folder)["large"] == LARGE


@pytest.mark.parametrize(("status", "error"), [(403, PermissionError), (503, storage.UnavailableError)])
@pytest.mark.parametrize("failing", ["partNumber=2", "^POST .*uploadId="])
def test_an_upload_that_fails_for_good_leaves_neither_object_nor_parts(
    folder: str, proxy: FaultProxy, no_patience: None, failing: str, status: int, error: type[OSError]
) -> None:
    proxy.faults.append(Fault("status", match=failing, argument=status))
    with pytest.raises(error, match="large"):
        put_in_parts(folder)
    assert content(folder) == {"a": CONTENT}
    assert storage.leftovers(folder, -60) == []


def test_parts_that_cannot_be_dropped_either_are_found_later(folder: str, proxy: FaultProxy) -> None:
    proxy.faults.append(Fault("status", match="partNumber=2|^DELETE", argument=403))
    with pytest.raises(PermissionError, match="AccessDenied"):
        put_in_parts(folder)
    proxy.faults.clear()
    (found,) = storage.leftovers(folder, -60)
    storage.discard(found)
    assert storage.leftovers(folder, -60) == []


@pytest.mark.parametrize("write", [storage.put, storage.replace])
def test_a_completed_upload_whose_acknowledgement_is_lost_is_ours(
    folder: str, proxy: FaultProxy, write: Callable[[str, bytes], Any]
) -> None:
    proxy.faults.append(Fault("lost_ack", match="^POST .*uploadId=", times=1))
    write(f"{folder}/large", LARGE)
    assert content(folder) == {"a": CONTENT, "large": LARGE}


@pytest.mark.parametrize("write", [storage.put, storage.replace])
def test_the_same_holds_on_a_store_that_forgets_an_upload_once_it_is_complete(
    rclone_server: RcloneServer, at_endpoint: Callable[[str], None], write: Callable[[str, bytes], Any]
) -> None:
    uri = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    with FaultProxy(rclone_server.url) as proxy:
        at_endpoint(proxy.url)
        proxy.faults.append(Fault("lost_ack", match="^POST .*uploadId=", times=1))
        write(uri, LARGE)
        assert storage.read(uri) == LARGE


def test_another_object_that_appears_during_our_upload_is_left_as_it_is(folder: str, proxy: FaultProxy) -> None:
    def win() -> None:
        boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).put_object(
            Bucket=BUCKET, Key=s3_read.split(f"{folder}/large")[1], Body=b"the other's"
        )

    proxy.faults.append(Fault("before", match="^POST .*uploadId=", times=1, call=win))
    with pytest.raises(FileExistsError, match="large exists with other content"):
        put_in_parts(folder)
    assert content(folder)["large"] == b"the other's"
    assert storage.leftovers(folder, -60) == []
