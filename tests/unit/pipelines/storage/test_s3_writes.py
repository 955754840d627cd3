"""storage.s3_write: answers that no test server gives, from a scripted one: conflicts, rejections, pages of uploads."""

import base64
import zlib

import pytest

from pipelines import storage
from pipelines.storage import s3_errors, s3_retries, s3_write
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.scripted_store import CALLS, LEAK, URI, ScriptedStore, message_of
from tests.support.servers import BUCKET

BEGUN = "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>"
ENDED = (200, {}, "<CompleteMultipartUploadResult/>")


def test_a_conflict_of_writers_is_waited_for(scripted: ScriptedStore) -> None:
    """409: another write of the same object is under way; afterwards the condition fails, and the contents differ."""
    scripted.answer(404, "NoSuchKey")
    scripted.answer(409, "ConditionalRequestConflict")
    scripted.answer(412, "PreconditionFailed")
    scripted.answers.append((200, {"Content-Length": "5", "ETag": '"1"'}, ""))
    with pytest.raises(FileExistsError, match="a exists with other content"):
        storage.put(URI, b"content")
    assert [headers["If-None-Match"] for headers in scripted.requests] == [None, "*", "*", None]


def test_a_store_that_does_not_know_conditions_is_written_without(scripted: ScriptedStore) -> None:
    scripted.answer(404, "NoSuchKey")
    scripted.answer(501, "NotImplemented")
    scripted.answer(200, "")
    assert storage.put(URI, b"content")
    assert [headers["If-None-Match"] for headers in scripted.requests] == [None, "*", None]


def test_an_object_that_cannot_be_removed_is_named(scripted: ScriptedStore) -> None:
    error = f"<Error><Key>cells/a</Key><Code>AccessDenied</Code><Message>{LEAK}</Message></Error>"
    scripted.answers.append((200, {}, f"<DeleteResult>{error}</DeleteResult>"))
    assert message_of(OSError, lambda: storage.remove([URI])) == f"{URI}: AccessDenied: not removed"


def test_uploads_that_never_ended_are_found_on_every_page(scripted: ScriptedStore) -> None:
    """No test server lists them in pages."""
    upload = (
        "<Upload><Key>cells/%s</Key><UploadId>%s</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>"
    )
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>"
    for body in (more + upload % ("a", 1), upload % ("b", 2)):
        page = f"<ListMultipartUploadsResult>{body}</ListMultipartUploadsResult>"
        scripted.answers.append((200, {}, page))
    found = storage.leftovers(f"s3://{BUCKET}/cells", 0)
    assert [(leftover.uri[-1], leftover.upload) for leftover in found] == [("a", "1"), ("b", "2")]


WITH_A_CONDITION = {**CALLS, "put": lambda uri: storage.put(uri, b"x"), "probe": storage.probe}


def test_a_store_that_knows_no_writing_is_not_one_without_conditions(scripted: ScriptedStore) -> None:
    scripted.answer(501, "NotImplemented")
    for call in WITH_A_CONDITION.values():
        assert " (501)" in message_of(s3_errors.UnsupportedError, lambda call=call: call(URI))
    assert storage.leftovers(URI, 0) == []


def test_a_probe_of_a_store_that_does_not_know_conditions_writes_without(scripted: ScriptedStore) -> None:
    scripted.answer(501, "NotImplemented")
    scripted.answer(200, "")
    assert storage.probe(f"s3://{BUCKET}").startswith("S3 without conditional writes")
    assert [headers["If-None-Match"] for headers in scripted.requests] == ["*", None]


def test_only_the_keys_that_were_not_removed_are_asked_for_again(scripted: ScriptedStore) -> None:
    for keys in ("bc", "c", ""):
        errors = "".join(f"<Error><Key>{key}</Key><Code>SlowDown</Code></Error>" for key in keys)
        scripted.answers.append((200, {}, f"<DeleteResult>{errors}</DeleteResult>"))
    storage.remove([f"s3://{BUCKET}/{key}" for key in "abc"])
    asked = [[key for key in "abc" if b"<Key>%s</Key>" % key.encode() in body] for body in scripted.bodies]
    assert asked == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_a_key_that_is_never_removed_is_named(scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_retries, "_FIRST_SECONDS", 0)
    error = "<Error><Key>cells/a</Key><Code>InternalError</Code></Error>"
    scripted.answers.append((200, {}, f"<DeleteResult>{error}</DeleteResult>"))
    said = message_of(storage.UnavailableError, lambda: storage.remove([URI]))
    assert said == f"s3://{BUCKET}: cells/a: InternalError: not removed"


@pytest.mark.parametrize("keeps", [True, False])
def test_an_upload_ends_with_the_checksums_that_the_store_keeps(
    scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    monkeypatch.setattr(s3_write, "_UPLOAD_PART_BYTES", 4)
    checksum = base64.b64encode(zlib.crc32(b"cont").to_bytes(4, "big")).decode()
    scripted.answers.append((200, {}, BEGUN % 1))
    scripted.answers += [(200, {"ETag": '"1"'} | ({"x-amz-checksum-crc32": checksum} if keeps else {}), "")] * 2
    scripted.answers.append(ENDED)
    storage.replace(URI, b"contcont")
    assert scripted.requests[0]["x-amz-checksum-algorithm"] == "CRC32"
    assert [headers["x-amz-checksum-crc32"] for headers in scripted.requests[1:3]] == [checksum] * 2
    assert scripted.bodies[3].count(f"<ChecksumCRC32>{checksum}</ChecksumCRC32>".encode()) == (2 if keeps else 0)


def test_no_checksum_is_asked_of_a_store_that_must_not_be_sent_any(
    scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    storage.forget_clients()
    monkeypatch.setattr(s3_write, "_UPLOAD_PART_BYTES", 4)
    scripted.answers += [(200, {}, BEGUN % 1), (200, {"ETag": '"1"'}, ""), (200, {"ETag": '"1"'}, ""), ENDED]
    storage.replace(URI, b"contcont")
    assert not [name for headers in scripted.requests for name in headers if "checksum" in name.lower()]


@pytest.fixture
def conflict(scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch) -> ScriptedStore:
    """A store that has no object at first, and in which a conflict ends the first upload."""
    monkeypatch.setattr(s3_write, "_UPLOAD_PART_BYTES", 6)
    scripted.answer(404, "NoSuchKey")
    scripted.answers += [(200, {}, BEGUN % 1), (200, {"ETag": '"1"'}, ""), (200, {"ETag": '"1"'}, "")]
    scripted.answer(409, "ConditionalRequestConflict")
    scripted.answers.append((204, {}, ""))
    return scripted


def test_an_upload_that_a_conflict_ended_is_done_again_once(conflict: ScriptedStore) -> None:
    conflict.answer(404, "NoSuchKey")
    conflict.answers += [(200, {}, BEGUN % 2), (200, {"ETag": '"1"'}, ""), (200, {"ETag": '"1"'}, ""), ENDED]
    assert storage.put(URI, b"content")
    assert [asked.partition(" ")[0] for asked in conflict.asked] == [
        *("HEAD", "POST", "PUT", "PUT", "POST", "DELETE"),
        *("HEAD", "POST", "PUT", "PUT", "POST"),
    ]
    assert [asked.partition("uploadId=")[2][:1] for asked in conflict.asked if "uploadId" in asked] == list("1111222")


def test_an_upload_that_a_conflict_ended_leaves_the_others_object(conflict: ScriptedStore) -> None:
    conflict.answers.append((200, {"Content-Length": "5", "ETag": '"1"'}, ""))
    with pytest.raises(FileExistsError, match="a exists with other content"):
        storage.put(URI, b"content")
    assert conflict.asked[-1].startswith("HEAD")


def test_a_conflict_that_comes_again_is_an_unavailable_store(
    faulty_s3: tuple[str, FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_write, "_UPLOAD_PART_BYTES", 5 << 20)
    folder, proxy = faulty_s3
    proxy.faults.append(Fault("status", match="^POST .*uploadId=", argument=409, times=2))
    with pytest.raises(storage.UnavailableError, match=r"large: ConditionalRequestConflict \(409\)"):
        storage.put(f"{folder}/large", bytes(6 << 20))
    assert storage.leftovers(folder, -60) == []
    assert storage.put(f"{folder}/large", bytes(6 << 20))
