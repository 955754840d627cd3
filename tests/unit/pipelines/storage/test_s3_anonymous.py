"""storage.s3_client: objects of public buckets are read with requests that carry no signature."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.steps import options
from pipelines import storage
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from tests.support import plain_s3
from tests.support.scripted_store import ScriptedStore
from tests.support.servers import BUCKET, RcloneServer
from tests.support.shard_files import tar_of

READS: dict[str, Callable[[str], object]] = {
    "stat": storage.stat,
    "read": storage.read,
    "open_input": lambda uri: storage.open_input(uri).read(),
    "list": lambda uri: list(storage.list_objects(uri)),
}
WRITES: dict[str, Callable[[str], object]] = {
    "put": lambda uri: storage.put(uri, b"x"),
    "replace": lambda uri: storage.replace(uri, b"x"),
    "remove": lambda uri: storage.remove([uri]),
    "probe": storage.probe,
}


def put_public_shard(uri: str) -> None:
    """A shard that everybody may read."""
    storage.put(uri, tar_of([("a.jpg", b"image"), ("a.cls", b"7")]))
    place = {"Bucket": BUCKET, "Key": uri.removeprefix(f"s3://{BUCKET}/")}
    plain_s3.client(os.environ["AWS_ENDPOINT_URL"]).put_object_acl(ACL="public-read", **place)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials anywhere."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage.forget_clients()


@pytest.mark.parametrize("name", READS)
def test_requests_for_an_anonymous_uri_are_not_signed_and_others_are(scripted: ScriptedStore, name: str) -> None:
    scripted.answer(404, "NoSuchKey")
    for uri in ("s3://anonymous@bucket/a", "s3://bucket/a"):
        with pytest.raises(FileNotFoundError):
            READS[name](uri)
    assert ["Authorization" in request for request in scripted.requests] == [False, True]
    assert all("anonymous" not in asked for asked in scripted.asked)


@pytest.mark.usefixtures("nobody")
def test_without_any_credentials_a_public_bucket_is_a_dataset(s3_server: str, monkeypatch, tmp_path) -> None:
    folder = f"{s3_server}/{uuid.uuid4().hex}"
    with monkeypatch.context() as somebody:
        somebody.setenv("AWS_ACCESS_KEY_ID", "key")
        somebody.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        storage.forget_clients()
        put_public_shard(f"{folder}/val/0.tar")
        signed = find_dataset([f"{folder}/val"])
    storage.forget_clients()
    (tmp_path / "list.txt").write_text(f"{folder}/val/0.tar\n")
    for source in (f"{folder}/val", f"{folder}/val/*.tar", f"{folder}/val/0.tar", str(tmp_path / "list.txt")):
        found = find_dataset([source], signed=False)
        assert (found.name, found.digest) == ("val", signed.digest), source
        assert [sample.label for sample in read.samples(found.shards[0])] == [7]
        with pytest.raises(PermissionError, match=r"no credentials found; .* none with --no-sign-request"):
            find_dataset([source])
    storage.forget_clients()


def test_the_bucket_itself_as_a_dataset_has_the_same_name_read_either_way(s3_server: str) -> None:
    put_public_shard(f"{s3_server}/top.tar")
    try:
        either = [find_dataset([f"{s3_server}/top.tar"], signed=signed) for signed in (True, False)]
        assert [dataset.name for dataset in either] == [BUCKET, BUCKET]
        assert either[0].digest == either[1].digest
    finally:
        storage.remove([f"{s3_server}/top.tar"])


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_without_credentials(scripted: ScriptedStore, name: str) -> None:
    with pytest.raises((ValueError, OSError), match="leave anonymous@ out"):
        WRITES[name]("s3://anonymous@bucket/a")
    assert scripted.asked == []


def test_a_bucket_that_is_not_public_says_so(rclone_server: RcloneServer, at_endpoint: Callable[[str], None]) -> None:
    at_endpoint(rclone_server.url)
    with pytest.raises(OSError) as refused:
        storage.read(f"s3://anonymous@{BUCKET}/a")
    told = str(refused.value)
    assert "does not answer requests without credentials" in told


@pytest.mark.parametrize(
    ("said", "signed"), [("1", False), ("YES", False), ("true", False), ("0", True), ("", True), ("no", True)]
)
def test_the_environment_may_ask_for_unsigned_requests(monkeypatch, said: str, signed: bool) -> None:
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", said)
    assert options.signs(True) is signed
    assert options.signs(False) is False
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "perhaps")
    with pytest.raises(ValueError, match="AWS_NO_SIGN_REQUEST=perhaps: expected 1"):
        options.signs(True)
