"""What is said when S3 refuses for good: at once, after one request, in one line, without a key or a query in it."""

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines import s3_errors, storage
from tests.conftest import BUCKET, RcloneServer
from tests.fault_proxy import FaultProxy

LEAK = "hunter2"
URI = f"s3://{BUCKET}/cells/a"
CALLS: dict[str, Callable[[str], Any]] = {
    "read": storage.read,
    "list": lambda uri: list(storage.list_objects(uri)),
    "replace": lambda uri: storage.replace(uri, b"x"),
    "remove": lambda uri: storage.remove([uri]),
}


class ScriptedStore:
    """Gives the `answers` in order, the last for ever; `requests` has the headers of what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.requests: list[Message] = []

    def answer(self, status: int, code: str, **headers: str) -> None:
        """Answer next with an S3 error that says what nobody should repeat."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        said = f"<Message>key {LEAK}\nis wrong</Message><AWSAccessKeyId>{LEAK}</AWSAccessKeyId>"
        self.answers.append((status, names, f"<Error><Code>{code}</Code>{said}</Error>" if status != 200 else ""))


@pytest.fixture
def scripted(s3_keys: tuple[str, str], at_endpoint: Callable[[str], None]) -> Iterator[ScriptedStore]:
    """The store that our storage talks to: for errors that no server here makes."""
    store = ScriptedStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # answers `Expect: 100-continue`, which the SDK else waits for

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            store.requests.append(self.headers)
            status, headers, body = store.answers.pop(0) if len(store.answers) > 1 else store.answers[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    at_endpoint(store.url)
    yield store
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def checked_store(rclone_server: RcloneServer, at_endpoint: Callable[[str], None]) -> Iterator[FaultProxy]:
    """A proxy, without faults, to the server that checks keys; what it has seen is counted."""
    with FaultProxy(rclone_server.url) as proxy:
        at_endpoint(proxy.url)
        yield proxy


def message_of(error: type[Exception], call: Callable[[], Any]) -> str:
    """What `call` raises says: one short line, without secrets."""
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 450
    for secret in (LEAK, os.environ.get("AWS_SECRET_ACCESS_KEY") or LEAK, "Signature="):
        assert secret not in said
    return said


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", PermissionError, "these credentials may not do this"),
        (403, "InvalidAccessKeyId", PermissionError, "does not know this access key"),
        (403, "SignatureDoesNotMatch", PermissionError, "secret key does not belong to the access key"),
        (403, "RequestTimeTooSkewed", PermissionError, "this machine's clock is wrong"),
        (400, "ExpiredToken", OSError, "the credentials have expired; renew them"),
        (400, "InvalidToken", OSError, "the session token is not valid"),
        (404, "NoSuchBucket", FileNotFoundError, "there is no such bucket"),
        (405, "MethodNotAllowed", OSError, "MethodNotAllowed (405)"),
    ],
)
def test_a_refusal_is_one_request_and_one_line(
    scripted: ScriptedStore, status: int, code: str, error: type[Exception], words: str
) -> None:
    scripted.answer(status, code)
    for call in CALLS.values():
        said = message_of(error, lambda call=call: call(URI))
        assert said.startswith(f"s3://{BUCKET}")
        assert words in said
        assert f"{code} ({status})" in said
    assert len(scripted.requests) == len(CALLS)


@pytest.mark.parametrize(
    ("status", "words"), [(403, "unknown keys, or no right"), (400, "expired, or another region?")]
)
def test_a_refusal_of_a_head_request_which_has_no_body_says_what_it_may_mean(
    scripted: ScriptedStore, status: int, words: str
) -> None:
    scripted.answer(status, "ExpiredToken")
    assert words in message_of(PermissionError if status == 403 else OSError, lambda: storage.stat(URI))
    assert len(scripted.requests) <= 2  # the SDK asks once more where the bucket lies


@pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")])
def test_a_bucket_in_another_region_is_named_with_the_region(scripted: ScriptedStore, status: int, code: str) -> None:
    scripted.answer(status, code, x_amz_bucket_region="eu-central-1")
    for call in CALLS.values():
        said = message_of(OSError, lambda call=call: call(URI))
        assert "another region; set AWS_DEFAULT_REGION=eu-central-1" in said
    assert len(scripted.requests) <= 3 * len(CALLS)  # the SDK tries that region once by itself


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentSHA256Mismatch", "RequestTimeout", "OperationAborted"])
def test_what_the_network_did_to_a_request_is_tried_again(scripted: ScriptedStore, code: str) -> None:
    """These are refusals with 400 or 409, yet the next attempt is another matter: a bit was flipped, say."""
    for _ in range(2):
        scripted.answer(400, code)
    scripted.answer(200, "")
    storage.replace(URI, b"content")
    assert len(scripted.requests) == 3
    assert all(headers["x-amz-checksum-crc32"] for headers in scripted.requests)


def test_a_conflict_of_writers_is_waited_for(scripted: ScriptedStore) -> None:
    """409: another's write of the same object is under way; when it has ended the condition fails, and they differ."""
    scripted.answer(404, "NoSuchKey")
    scripted.answer(409, "ConditionalRequestConflict")
    scripted.answer(412, "PreconditionFailed")
    scripted.answers.append((200, {"Content-Length": "5", "ETag": '"1"'}, ""))
    with pytest.raises(FileExistsError, match="a is there with other content"):
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


@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_a_web_page_in_a_stores_place_is_not_repeated(
    scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(s3_errors, "_FIRST_SECONDS", 0)
    scripted.answers.append((status, {"Content-Type": "text/html"}, "<html><p>Welcome\n" + "<br>to nginx!\n" * 1000))
    with pytest.raises(OSError, match=BUCKET) as raised:
        list(storage.list_objects(URI))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", "the secret key does not belong to the access key"),
        ("AWS_ACCESS_KEY_ID", "the store does not know this access key"),
    ],
)
def test_a_wrong_key_is_one_request_and_one_line(
    checked_store: FaultProxy, monkeypatch: pytest.MonkeyPatch, setting: str, words: str
) -> None:
    monkeypatch.setenv(setting, LEAK)
    for call in CALLS.values():
        assert words in message_of(PermissionError, lambda call=call: call(URI))
    assert len(checked_store.seen) == len(CALLS)


def test_a_missing_bucket_is_one_request_and_one_line(faulty_s3: tuple[str, FaultProxy]) -> None:
    for call in CALLS.values():
        said = message_of(FileNotFoundError, lambda call=call: call(f"s3://none-{uuid.uuid4().hex}/a"))
        assert said.endswith("NoSuchBucket (404): there is no such bucket")
    assert len(faulty_s3[1].seen) == len(CALLS)


def test_a_probe_of_a_missing_bucket_says_so(s3_server: str) -> None:
    said = message_of(FileNotFoundError, lambda: storage.probe(f"s3://none-{uuid.uuid4().hex}"))
    assert said.endswith("there is no such bucket")


def test_without_credentials_nothing_is_asked(
    checked_store: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for call in CALLS.values():
        assert "no credentials found; set AWS_ACCESS" in message_of(PermissionError, lambda call=call: call(URI))
    assert checked_store.seen == []


def test_a_profile_that_is_not_there_is_named(checked_store: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "profile (nobody) could not be found" in message_of(PermissionError, lambda: storage.read(URI))


@pytest.mark.parametrize("endpoint", [f"user:{LEAK}@host:9", f"http://user:{LEAK}@127.0.0.1:9/?Signature={LEAK}"])
def test_an_endpoint_that_is_none_is_refused_without_repeating_its_password(
    s3_keys: tuple[str, str], at_endpoint: Callable[[str], None], endpoint: str
) -> None:
    at_endpoint(endpoint)
    with pytest.raises((OSError, ValueError), match=r"AWS_ENDPOINT_URL|endpoint") as raised:
        storage.read(URI)
    assert LEAK not in str(raised.value)


@pytest.mark.parametrize("uri", [f"s3://user:{LEAK}@bucket/key", f"s3://{LEAK}:9000/key", "s3:///key"])
def test_a_uri_that_holds_more_or_less_than_a_bucket_and_a_key_is_refused(uri: str) -> None:
    for call in CALLS.values():
        message_of(ValueError, lambda call=call: call(uri))


def test_an_endpoint_where_nobody_listens_is_unavailable(
    s3_keys: tuple[str, str], at_endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_errors, "_FIRST_SECONDS", 0)
    with socket.socket() as unheard:  # bound, never listening: nobody else takes the port
        unheard.bind(("127.0.0.1", 0))
        at_endpoint(f"http://user:{LEAK}@127.0.0.1:{unheard.getsockname()[1]}")
        said = message_of(storage.UnavailableError, lambda: storage.read(URI))
    assert said.startswith(f"{URI}: Could not connect to the endpoint URL")


def test_a_server_that_does_not_speak_tls_is_refused_at_once(
    scripted: ScriptedStore, at_endpoint: Callable[[str], None]
) -> None:
    at_endpoint(scripted.url.replace("http:", "https:"))
    assert "SSL" in message_of(OSError, lambda: storage.read(URI))


def test_uploads_that_never_ended_are_found_on_every_page(scripted: ScriptedStore) -> None:
    """No server here gives them in pages."""
    upload = (
        "<Upload><Key>cells/%s</Key><UploadId>%s</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>"
    )
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>"
    for body in (more + upload % ("a", 1), upload % ("b", 2)):
        page = f"<ListMultipartUploadsResult>{body}</ListMultipartUploadsResult>"
        scripted.answers.append((200, {}, page))
    found = storage.leftovers(f"s3://{BUCKET}/cells", 0)
    assert [(leftover.uri[-1], leftover.upload) for leftover in found] == [("a", "1"), ("b", "2")]
