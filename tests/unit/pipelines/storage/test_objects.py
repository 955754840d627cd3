"""storage.objects: a URI behaves the same on local disk, on an S3 server, and on one without conditional writes.

Tests of one kind of store alone are in test_local.py and test_s3*.py.
"""

import io
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from pipelines import storage
from pipelines.storage import s3_client, s3_read, s3_write

CONTENT = bytes(range(256)) * 20


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in ranges of 1000 bytes."""
    monkeypatch.setattr(s3_read, "_PART_BYTES", 1000)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads in parts of 5 MiB, the least that S3 accepts."""
    monkeypatch.setattr(s3_write, "_UPLOAD_PART_BYTES", 5 << 20)


def names(folder: str) -> list[str]:
    return [entry.uri.removeprefix(folder).lstrip("/") for entry in storage.list_objects(folder)]


def test_what_was_put_is_read_back(store: str) -> None:
    assert storage.put(f"{store}/a/b.bin", b"content")
    assert storage.read(f"{store}/a/b.bin") == b"content"
    assert storage.stat(f"{store}/a/b.bin").size == 7
    assert storage.exists(f"{store}/a/b.bin")


def test_an_object_may_be_empty(store: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    storage.put(f"{store}/a", b"")
    storage.put_file(f"{store}/b", tmp_path / "empty")
    for uri in (f"{store}/a", f"{store}/b"):
        assert storage.read(uri) == b""
        with storage.open_input(uri) as stream:
            assert stream.read() == b""


def test_putting_the_same_bytes_again_is_fine_and_changes_nothing(store: str) -> None:
    storage.put(f"{store}/cell", b"rows")
    before = storage.stat(f"{store}/cell")
    assert not storage.put(f"{store}/cell", b"rows")
    assert storage.stat(f"{store}/cell") == before


@pytest.mark.parametrize("other", [b"else", b"longer", b""])
def test_putting_other_bytes_is_refused_and_the_first_stay(store: str, other: bytes) -> None:
    """One after the other; this holds on a store without conditional writes, too."""
    storage.put(f"{store}/cell", b"rows")
    with pytest.raises(FileExistsError, match="cell exists with other content"):
        storage.put(f"{store}/cell", other)
    assert storage.read(f"{store}/cell") == b"rows"


def test_a_probed_store_keeps_the_same_promises(store: str) -> None:
    storage.probe(store)
    assert storage.put(f"{store}/cell", b"rows")
    assert not storage.put(f"{store}/cell", b"rows")
    with pytest.raises(FileExistsError):
        storage.put(f"{store}/cell", b"else")
    assert storage.read(f"{store}/cell") == b"rows"


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_of_many_that_put_at_once_exactly_one_wins(store: str) -> None:
    """Not on rclone, which ignores If-None-Match; `probe` reports that."""

    def attempt(writer: int) -> bool:
        try:
            return storage.put(f"{store}/contended", b"x" * 1000 + bytes([writer]))
        except FileExistsError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


@pytest.mark.parametrize("size", [1, 5 << 20, (5 << 20) + 1, (10 << 20) + 12345])
def test_a_file_of_any_size_is_put_as_its_bytes_are(store: str, tmp_path: Path, size: int, small_parts: None) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert storage.put_file(f"{store}/a", tmp_path / "file")
    assert not storage.put_file(f"{store}/a", tmp_path / "file")
    assert not storage.put(f"{store}/a", content)
    (tmp_path / "file").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FileExistsError, match="a exists with other content"):
        storage.put_file(f"{store}/a", tmp_path / "file")
    with storage.open_input(f"{store}/a") as stream:
        stream.seek(-min(size, 1000), io.SEEK_END)
        assert stream.read() == content[-1000:]


def test_replace_writes_over(store: str) -> None:
    storage.replace(f"{store}/report", b"first")
    storage.replace(f"{store}/report", b"second")
    assert storage.read(f"{store}/report") == b"second"


def test_a_large_object_is_replaced_whole(store: str, small_parts: None) -> None:
    for content in (b"small", os.urandom(6 << 20)):
        storage.replace(f"{store}/report", content)
        assert storage.stat(f"{store}/report").size == len(content)
    with storage.open_input(f"{store}/report") as stream:
        assert stream.read(3000) == content[:3000]


def test_an_open_object_is_read_like_a_file(store: str, small_ranges: None) -> None:
    storage.put(f"{store}/a", CONTENT)
    with storage.open_input(f"{store}/a") as stream:
        assert stream.read(10) == CONTENT[:10]
        assert stream.seek(3000) == stream.tell() == 3000
        assert stream.read(1500) == CONTENT[3000:4500]
        assert stream.seek(-7, io.SEEK_CUR) == 4493
        assert stream.seek(-20, io.SEEK_END) == len(CONTENT) - 20
        assert stream.read() == CONTENT[-20:]
        assert stream.read(1) == b""
        assert stream.seek(len(CONTENT) + 5) == len(CONTENT) + 5
        assert stream.read() == b""
        stream.seek(0)
        assert stream.read() == CONTENT
    assert storage.read(f"{store}/a") == CONTENT


def test_seeking_to_before_the_beginning_is_an_error(store: str) -> None:
    storage.put(f"{store}/a", CONTENT)
    with storage.open_input(f"{store}/a") as stream:
        for whence in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            with pytest.raises(OSError, match="Invalid argument"):
                stream.seek(-len(CONTENT) - 1, whence)
        assert stream.read(3) == CONTENT[:3]


def test_listing_is_recursive_sorted_and_leaves_out_hidden_names(store: str) -> None:
    for name in ("b/2", "a", "b/1", "b/.1.partial", "b.c", "b-c"):
        storage.put(f"{store}/{name}", b"x")
    assert names(store) == ["a", "b-c", "b.c", "b/1", "b/2"]


def test_a_name_may_hold_what_urls_and_shells_do_not(store: str) -> None:
    odd = ["a b", "a%20b", "a+b", "a?b#c&d=e", "ü/ß", "x'y"]
    for name in odd:
        storage.put(f"{store}/{name}", name.encode())
    assert names(store) == sorted(odd)
    assert [storage.read(f"{store}/{name}").decode() for name in odd] == odd
    storage.remove([f"{store}/{name}" for name in odd])
    assert names(store) == []


def test_a_listing_agrees_with_stat(store: str) -> None:
    storage.put(f"{store}/a", b"12345")
    assert list(storage.list_objects(store)) == [storage.stat(f"{store}/a")]


def test_an_etag_changes_with_the_content(store: str) -> None:
    etags = []
    for content in (b"12345", b"54321"):
        storage.replace(f"{store}/a", content)
        etags.append(storage.stat(f"{store}/a").etag)
    assert etags[0] != etags[1]


def test_a_prefix_is_a_folder_and_not_a_beginning_of_names(store: str) -> None:
    storage.put(f"{store}/val/1", b"x")
    storage.put(f"{store}/validation/1", b"x")
    assert [entry.uri for entry in storage.list_objects(f"{store}/val")] == [f"{store}/val/1"]


def test_an_absent_folder_lists_nothing(store: str) -> None:
    assert list(storage.list_objects(f"{store}/nothing")) == []


def test_a_listing_of_more_than_a_page_is_whole_and_in_order(s3_server: str) -> None:
    """On moto, which lists a thousand objects at a time, as S3 does."""
    folder = f"{s3_server}/{uuid.uuid4().hex}"
    expected = [f"{index:04d}" for index in range(1050)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: storage.replace(f"{folder}/{name}", b""), expected))
    assert names(folder) == expected
    storage.remove([entry.uri for entry in storage.list_objects(folder)])
    assert names(folder) == []


def test_an_absent_object_is_a_file_not_found_error_that_names_it(store: str) -> None:
    assert not storage.exists(f"{store}/nothing")
    for call in (storage.stat, storage.read, storage.open_input):
        with pytest.raises(FileNotFoundError, match="nothing"):
            call(f"{store}/nothing")


def test_removing_takes_what_is_there_and_nothing_else(store: str) -> None:
    for name in ("a", "b", "b2"):
        storage.put(f"{store}/{name}", b"x")
    storage.remove([f"{store}/b", f"{store}/never"])
    storage.remove([])
    assert names(store) == ["a", "b2"]
    storage.put(f"{store}/b", b"other")


def test_removing_from_two_buckets_keeps_them_apart(s3_server: str) -> None:
    other, name = f"other-{uuid.uuid4().hex}", uuid.uuid4().hex
    boto3.client("s3").create_bucket(Bucket=other)
    for bucket in (s3_server, f"s3://{other}"):
        storage.put(f"{bucket}/{name}/a", b"x")
        storage.put(f"{bucket}/{name}/b", b"x")
    storage.remove([f"{s3_server}/{name}/a", f"s3://{other}/{name}/b"])
    assert (names(f"{s3_server}/{name}"), names(f"s3://{other}/{name}")) == (["b"], ["a"])


def test_what_a_killed_process_left_is_found_and_discarded_and_nothing_else(store: str) -> None:
    storage.put(f"{store}/cells/done", b"rows")
    begin(f"{store}/cells/begun")
    begin(f"{store}-elsewhere/begun")
    assert names(store) == ["cells/done"]
    (found,) = storage.leftovers(store, -60)
    storage.discard(found)
    storage.discard(found) if found.upload is None else None
    assert storage.leftovers(store, -60) == []
    assert len(storage.leftovers(f"{store}-elsewhere", -60)) == 1
    assert storage.read(f"{store}/cells/done") == b"rows"


def begin(uri: str) -> None:
    """Begin to write `uri` and stop, as a process does that is killed."""
    if storage.is_remote(uri):
        bucket, key = s3_read.split(uri)
        s3_client.client().create_multipart_upload(Bucket=bucket, Key=key)
    else:
        path = storage.local_path(uri).with_name(".menagerie-begun")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"ro")


@pytest.mark.parametrize("store", ["local", "rclone"], indirect=True)
def test_what_was_begun_just_now_is_no_leftover(store: str) -> None:
    """Not on moto, which dates every upload to 2010."""
    begin(f"{store}/begun")
    assert storage.leftovers(store, 60) == []


def test_leftovers_of_a_store_that_is_not_there_are_none(store: str) -> None:
    assert storage.leftovers(f"{store}/never", 0) == []


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("local", "local disk"),
        ("s3", "S3, conditional writes"),
        ("rclone", "S3 without conditional writes: fill a cell"),
    ],
    indirect=["store"],
)
def test_a_probe_says_what_the_store_can_do_and_is_never_listed(store: str, words: str) -> None:
    for _ in range(2):  # the first may leave an object
        assert storage.probe(store).startswith(words)
    assert names(store) == []
    assert storage.leftovers(store, -60) == []


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown scheme 'gs'; known: s3://"):
        storage.read("gs://bucket/key")
