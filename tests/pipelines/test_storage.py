"""Each test runs on local disk and on an S3 server: a URI behaves the same wherever it points."""

from concurrent.futures import ThreadPoolExecutor

import pytest

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
