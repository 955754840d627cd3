"""storage.s3_client, s3_errors: credentials that are wrong, absent, expired or late."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.storage import s3_retries
from tests.support.fault_proxy import FaultProxy
from tests.support.scripted_store import CALLS, LEAK, URI, ScriptedStore, message_of
from tests.support.servers import RcloneServer


@pytest.fixture
def checked_store(rclone_server: RcloneServer, at_endpoint: Callable[[str], None]) -> Iterator[FaultProxy]:
    """A proxy without faults to the server that checks keys; it records the requests."""
    with FaultProxy(rclone_server.url) as proxy:
        at_endpoint(proxy.url)
        yield proxy


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


@pytest.fixture
def helper(scripted: ScriptedStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Gets credentials from a program; `minutes` is how long each lasts, None if it fails; the last one is repeated.

    Returns the file in which the program writes a line for each of its runs.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    scripted.answer(200, "")

    def give(*minutes: int | None) -> Path:
        for number, lasting in enumerate(minutes, 1):
            (tmp_path / str(number)).write_text("" if lasting is None else credentials(lasting))
        lines = f"echo >> {tmp_path}/runs; n=$(wc -l < {tmp_path}/runs); [ $n -gt {len(minutes)} ] && n={len(minutes)}"
        (tmp_path / "helper").write_text(f"{lines}; echo {LEAK} >&2; [ -s {tmp_path}/$n ] && cat {tmp_path}/$n")
        (tmp_path / "config").write_text(f"[default]\ncredential_process = sh {tmp_path}/helper\n")
        return tmp_path / "runs"

    return give


def credentials(minutes: int) -> str:
    until = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    keys = {"AccessKeyId": "a", "SecretAccessKey": LEAK, "SessionToken": LEAK}
    return json.dumps({"Version": 1, "Expiration": until, **keys})


def test_credentials_that_stay_expired_are_said_to_be(helper: Callable[..., Path], scripted: ScriptedStore) -> None:
    helper(-1)
    for call in CALLS.values():
        said = message_of(PermissionError, lambda call=call: call(URI))
        assert "the credentials have expired; renew them" in said
    assert scripted.requests == []


def test_an_error_of_our_own_stays_what_it_is() -> None:
    def ours() -> None:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        s3_retries.persist(URI, ours)


def test_credentials_that_come_late_are_waited_for(helper: Callable[..., Path], scripted: ScriptedStore) -> None:
    """The first are about to expire, so the SDK asks for others; an overloaded service gives none at first."""
    runs = helper(5, None, None, 60)
    storage.replace(URI, b"content")
    assert len(runs.read_text()) == 4
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("lasting", [(None,), (5, None)])
def test_credentials_that_never_come_are_unavailable(
    helper: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, lasting: tuple[int | None, ...]
) -> None:
    monkeypatch.setattr(s3_retries, "_FIRST_SECONDS", 0)
    helper(*lasting)
    said = message_of(storage.UnavailableError, lambda: storage.read(URI))
    assert said.endswith(": no credentials from custom-process; is it away or overloaded?")
