"""Covers pipelines.data.manifest: read back as written, never overwritten, and an error where it is damaged."""

import json
from dataclasses import replace

import pytest

from pipelines import storage
from pipelines.data.manifest import (
    BEGUN,
    NAME,
    Labels,
    Manifest,
    PackedShard,
    begin,
    read_manifest,
    require_complete,
    write_manifest,
)
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.logs import messages_of
from tests.support.scripted_store import ScriptedStore
from tests.support.servers import BUCKET

MANIFEST = Manifest(
    samples=5,
    labels=Labels(min=0, max=9, count=4),
    shards=(
        PackedShard(name="00000.tar", size=10240, rows=3, sha256="a" * 64),
        PackedShard(name="00001.tar", size=20480, rows=2, sha256="b" * 64),
    ),
)


def test_a_manifest_comes_back_as_it_was_written(store: str) -> None:
    assert read_manifest(store) is None
    write_manifest(store, MANIFEST)
    write_manifest(store, MANIFEST)
    assert read_manifest(store) == MANIFEST


def test_a_manifest_keeps_the_labels_of_class_names_and_is_otherwise_as_before(store: str) -> None:
    named = replace(MANIFEST, classes={"dog": 0, "cat": 1})
    write_manifest(f"{store}/named", named)
    assert read_manifest(f"{store}/named") == named
    write_manifest(f"{store}/plain", MANIFEST)
    assert set(json.loads(storage.read(f"{store}/plain/{NAME}"))) == {"format", "samples", "labels", "shards"}


def test_a_manifest_is_not_written_over(store: str) -> None:
    write_manifest(store, MANIFEST)
    with pytest.raises(FileExistsError, match=r"manifest\.json"):
        write_manifest(store, Manifest(samples=0, labels=Labels(min=None, max=None, count=0), shards=()))
    assert read_manifest(store) == MANIFEST


def test_a_manifest_that_may_not_be_read_counts_as_absent(
    faulty_s3: tuple[str, FaultProxy], caplog: pytest.LogCaptureFixture
) -> None:
    """A store that does not say whether there is a manifest has none, and one message says so.

    Without the right to list, that is what AWS answers where nothing is there.
    """
    folder, proxy = faulty_s3
    begin(folder)
    proxy.faults.append(Fault("status", match=f"{NAME}|{BEGUN}", argument=403))
    assert require_complete(folder) is None
    (said,) = messages_of("pipelines.data.manifest", caplog)
    assert said.startswith(f"{folder}/{NAME}: AccessDenied (403)")
    assert "treated as absent" in said


def test_a_manifest_that_cannot_be_read_for_another_reason_is_an_error(
    scripted: ScriptedStore,
) -> None:
    scripted.answer(403, "RequestTimeTooSkewed")
    with pytest.raises(PermissionError, match="this machine's clock is wrong"):
        require_complete(f"s3://{BUCKET}/packed")


SHARD = {"name": "00000.tar", "size": 10240, "rows": 5, "sha256": "a" * 64}
GOOD = {
    "format": "menagerie-shards/1",
    "samples": 5,
    "labels": {"min": None, "max": None, "count": 0},
    "shards": [SHARD],
}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "menagerie-shards/2"},
        {"samples": 4},
        {"samples": "5"},
        {"labels": None},
        {"labels": {"min": 0, "max": 1}},
        {"labels": {"min": None, "max": 1, "count": 1}},
        {"labels": {"min": 0, "max": 0, "count": 0}},
        {"shards": 7},
        {"shards": [SHARD | {"sha256": "a"}]},
        {"shards": [SHARD | {"size": -1}]},
        {"shards": [SHARD | {"size": True}]},
        {"shards": [SHARD | {"name": "../00000.tar"}]},
        {"shards": [SHARD | {"rows": 2}, SHARD | {"rows": 3}]},
        {"shards": [SHARD | {"extra": 1}]},
    ],
)
def test_a_damaged_manifest_is_refused_by_name(tmp_path, change: dict) -> None:
    storage.put(f"{tmp_path}/manifest.json", json.dumps(GOOD).encode())
    assert read_manifest(str(tmp_path)) is not None
    storage.replace(f"{tmp_path}/manifest.json", json.dumps(GOOD | change).encode())
    with pytest.raises(ValueError, match=r"manifest\.json is damaged or of another format"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null", b"7", json.dumps(GOOD).encode()[:-9]])
def test_bytes_that_are_no_manifest_are_refused(tmp_path, content: bytes) -> None:
    storage.put(f"{tmp_path}/manifest.json", content)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged or of another format"):
        read_manifest(str(tmp_path))
