"""Each test runs on local disk and on an S3 server: a URI behaves the same wherever it points."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipelines import storage


def test_what_was_put_is_read_back(store: str) -> None:
    assert storage.put(f"{store}/a/b.bin", b"content")
    assert storage.read(f"{store}/a/b.bin") == b"content"
    assert storage.stat(f"{store}/a/b.bin").size == 7
    assert storage.exists(f"{store}/a/b.bin")


def test_putting_the_same_bytes_again_is_fine_and_changes_nothing(store: str) -> None:
    storage.put(f"{store}/cell", b"rows")
    before = storage.stat(f"{store}/cell")
    assert not storage.put(f"{store}/cell", b"rows")
    assert storage.stat(f"{store}/cell") == before


def test_putting_other_bytes_is_refused_and_the_first_stay(store: str) -> None:
    storage.put(f"{store}/cell", b"rows")
    with pytest.raises(FileExistsError, match="cell is there with other content"):
        storage.put(f"{store}/cell", b"other")
    assert storage.read(f"{store}/cell") == b"rows"


def test_of_many_that_put_at_once_exactly_one_wins(store: str) -> None:
    def attempt(writer: int) -> bool:
        try:
            return storage.put(f"{store}/contended", b"x" * 1000 + bytes([writer]))
        except FileExistsError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_replace_writes_over(store: str) -> None:
    storage.replace(f"{store}/report", b"first")
    storage.replace(f"{store}/report", b"second")
    assert storage.read(f"{store}/report") == b"second"


def test_listing_is_recursive_sorted_and_leaves_out_hidden_names(store: str) -> None:
    for name in ("b/2", "a", "b/1", "b/.1.partial"):
        storage.put(f"{store}/{name}", b"x")
    assert [entry.uri for entry in storage.list_objects(store)] == [f"{store}/{name}" for name in ("a", "b/1", "b/2")]


def test_a_listing_agrees_with_stat(store: str) -> None:
    storage.put(f"{store}/a", b"12345")
    assert list(storage.list_objects(store)) == [storage.stat(f"{store}/a")]


def test_a_prefix_is_a_folder_and_not_a_beginning_of_names(store: str) -> None:
    storage.put(f"{store}/val/1", b"x")
    storage.put(f"{store}/validation/1", b"x")
    assert [entry.uri for entry in storage.list_objects(f"{store}/val")] == [f"{store}/val/1"]


def test_an_absent_folder_lists_nothing(store: str) -> None:
    assert list(storage.list_objects(f"{store}/nothing")) == []


def test_an_absent_object_is_a_file_not_found_error_that_names_it(store: str) -> None:
    assert not storage.exists(f"{store}/nothing")
    for call in (storage.stat, storage.read):
        with pytest.raises(FileNotFoundError, match="nothing"):
            call(f"{store}/nothing")


def test_a_failed_local_write_leaves_nothing(tmp_path, monkeypatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        storage.put(str(tmp_path / "cell"), b"rows")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown scheme 'gs'; known: s3://"):
        storage.read("gs://bucket/key")


def test_a_link_to_nothing_is_an_error_and_a_linked_folder_is_entered(tmp_path) -> None:
    storage.put(f"{tmp_path}/disk/1.tar", b"x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "more").symlink_to(tmp_path / "disk")
    assert [entry.uri for entry in storage.list_objects(f"{tmp_path}/data")] == [f"{tmp_path}/data/more/1.tar"]
    (tmp_path / "data" / "2.tar").symlink_to(tmp_path / "unmounted" / "2.tar")
    with pytest.raises(FileNotFoundError, match=r"2\.tar: a link to nothing"):
        list(storage.list_objects(f"{tmp_path}/data"))


def test_a_file_that_goes_away_while_a_folder_is_listed_is_passed_over(tmp_path, monkeypatch) -> None:
    for name in ("a", "b"):
        storage.put(f"{tmp_path}/{name}", b"x")
    stat = os.stat

    def vanishing(path, **options):
        if str(path).endswith("/a"):
            raise FileNotFoundError(path)
        return stat(path, **options)

    monkeypatch.setattr("pipelines.storage.os.stat", vanishing)
    assert [entry.uri for entry in storage.list_objects(str(tmp_path))] == [f"{tmp_path}/b"]


def test_replacing_a_folder_fails_and_leaves_nothing(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        storage.replace(f"{tmp_path}/folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


class Refusing:
    """A client whose put is refused with `status` so many times."""

    def __init__(self, status: int, times: int) -> None:
        self.status, self.times, self.puts = status, times, 0

    def put_object(self, **_: object) -> None:
        self.puts += 1
        if self.puts <= self.times:
            answer = {"Error": {"Code": "Refused"}, "ResponseMetadata": {"HTTPStatusCode": self.status}}
            raise ClientError(answer, "PutObject")


def test_a_put_that_conflicts_with_one_under_way_is_tried_again(monkeypatch) -> None:
    client = Refusing(409, 2)
    monkeypatch.setattr(storage, "_client", lambda: client)
    monkeypatch.setattr(storage, "_CONFLICT_PAUSES", (0.0,) * 3)
    assert storage.put("s3://bucket/key", b"x")
    assert client.puts == 3


def test_a_put_that_conflicts_for_ever_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(storage, "_client", lambda: Refusing(409, 99))
    monkeypatch.setattr(storage, "_CONFLICT_PAUSES", (0.0,) * 3)
    with pytest.raises(OSError, match=r"s3://bucket/key: Refused \(409\)"):
        storage.put("s3://bucket/key", b"x")


def test_a_bucket_that_is_not_there_is_named(s3_server) -> None:
    for call in (lambda uri: list(storage.list_objects(uri)), lambda uri: storage.replace(uri, b"x")):
        with pytest.raises(FileNotFoundError, match=r"s3://no-such-bucket/a: NoSuchBucket"):
            call("s3://no-such-bucket/a")


def test_a_store_that_does_not_answer_is_one_error_of_the_object(monkeypatch) -> None:
    class Away:
        def head_object(self, **_: object) -> None:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")

    monkeypatch.setattr(storage, "_client", Away)
    with pytest.raises(OSError, match=r"s3://bucket/key: Could not connect"):
        storage.stat("s3://bucket/key")


def test_what_could_not_be_written_is_said_beforehand(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    storage.require_writable(f"{tmp_path}/new/deep/object")
    with pytest.raises(NotADirectoryError, match="cannot be written"):
        storage.require_writable(f"{tmp_path}/file/object")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        storage.require_writable(str(tmp_path))
