"""storage.s3_errors: a final error comes after one request, in one line, without a key or a query in it."""

import socket
import uuid
from collections.abc import Callable

import pytest

from pipelines import storage
from pipelines.storage import s3_retries
from tests.support.fault_proxy import FaultProxy
from tests.support.scripted_store import CALLS, LEAK, URI, ScriptedStore, message_of
from tests.support.servers import BUCKET


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", storage.DeniedError, "these credentials do not allow it"),
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
    ("status", "words"), [(403, "unknown keys, or no right"), (400, "expired credentials, or another region?")]
)
def test_a_refusal_of_a_head_request_which_has_no_body_says_what_it_may_mean(
    scripted: ScriptedStore, status: int, words: str
) -> None:
    scripted.answer(status, "ExpiredToken")
    assert words in message_of(storage.DeniedError if status == 403 else OSError, lambda: storage.stat(URI))
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
    """Their statuses are 400 or 409, yet another attempt may succeed: a bit was flipped, for example."""
    for _ in range(2):
        scripted.answer(400, code)
    scripted.answer(200, "")
    storage.replace(URI, b"content")
    assert len(scripted.requests) == 3
    assert all(headers["x-amz-checksum-crc32"] for headers in scripted.requests)


@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_a_web_page_in_a_stores_place_is_not_repeated(
    scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(s3_retries, "_FIRST_SECONDS", 0)
    scripted.answers.append((status, {"Content-Type": "text/html"}, "<html><p>Welcome\n" + "<br>to nginx!\n" * 1000))
    with pytest.raises(OSError, match=BUCKET) as raised:
        list(storage.list_objects(URI))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_missing_bucket_is_one_request_and_one_line(faulty_s3: tuple[str, FaultProxy]) -> None:
    for call in CALLS.values():
        said = message_of(FileNotFoundError, lambda call=call: call(f"s3://none-{uuid.uuid4().hex}/a"))
        assert said.endswith("NoSuchBucket (404): there is no such bucket")
    assert len(faulty_s3[1].seen) == len(CALLS)


def test_a_probe_of_a_missing_bucket_says_so(s3_server: str) -> None:
    said = message_of(FileNotFoundError, lambda: storage.probe(f"s3://none-{uuid.uuid4().hex}"))
    assert said.endswith("there is no such bucket")


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
    monkeypatch.setattr(s3_retries, "_FIRST_SECONDS", 0)
    with socket.socket() as unheard:  # bound, never listening: nobody else takes the port
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        at_endpoint(f"http://user:{LEAK}@127.0.0.1:{port}")
        said = message_of(storage.UnavailableError, lambda: storage.read(URI))
    assert said == f"s3://{BUCKET}: cannot connect to http://127.0.0.1:{port} (AWS_ENDPOINT_URL): connection refused"


def test_an_error_whose_headers_hold_a_checksum_is_tried_again(
    scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rclone sends the object's checksum with an error, which the SDK cannot parse."""
    monkeypatch.setattr(s3_retries, "_FIRST_SECONDS", 0)
    scripted.answer(500, "InternalError", x_amz_checksum_crc32="AAAAAA==")
    message_of(storage.UnavailableError, lambda: storage.read(URI))
    assert len(scripted.requests) == 3


def test_a_long_wait_says_what_for_now_and_then(
    scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seconds in {"_FIRST_SECONDS": 1.0, "_QUIET_SECONDS": 0.3, "_EVERY_SECONDS": 60.0}.items():
        monkeypatch.setattr(s3_retries, name, seconds)
    scripted.answer(503, "SlowDown")
    said = ["of another"]
    for _ in range(5):  # a thread of an earlier test may still ask for its store, and is told so in our place
        if all(message.startswith(URI) for message in said):
            break
        monkeypatch.setattr(s3_retries, "_warned_at", [float("-inf")])
        caplog.clear()
        for _ in range(2):
            message_of(storage.UnavailableError, lambda: storage.read(URI))
        said = [record.getMessage() for record in caplog.records]
    assert said == [f"{URI}: SlowDown (503); trying again for a while"]


def test_a_server_that_does_not_speak_tls_is_refused_at_once(
    scripted: ScriptedStore, at_endpoint: Callable[[str], None]
) -> None:
    at_endpoint(scripted.url.replace("http:", "https:"))
    assert "SSL" in message_of(OSError, lambda: storage.read(URI))
