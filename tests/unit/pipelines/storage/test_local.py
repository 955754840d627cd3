"""storage.local: full disks, killed processes, odd names, links and folders without permission."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines import storage

WRITES: list[Callable[[str, bytes], object]] = [storage.put, storage.replace]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB: two objects of half a MiB do not fit."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def forbidden(folder: Path, mode: int) -> None:
    """Take permissions of `folder` away."""
    folder.mkdir(mode=mode)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write everywhere")


def names(folder: Path) -> list[str]:
    """The names of all files, hidden ones too."""
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("write", WRITES)
def test_a_write_onto_a_full_disk_leaves_what_was_there(full_disk: Path, write: Callable[[str, bytes], object]) -> None:
    storage.put(f"{full_disk}/a", b"rows")
    for name in ("a", "b") if write is storage.replace else ("b",):
        with pytest.raises(OSError) as raised:
            write(f"{full_disk}/{name}", bytes(2 << 20))
        assert raised.value.errno == errno.ENOSPC
    assert names(full_disk) == ["a"]
    assert storage.read(f"{full_disk}/a") == b"rows"
    write(f"{full_disk}/b", bytes(1 << 19))


def test_a_file_put_onto_a_full_disk_leaves_nothing(full_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2 << 20))
    with pytest.raises(OSError, match="No space left"):
        storage.put_file(f"{full_disk}/a", tmp_path / "file")
    assert names(full_disk) == []


def test_a_disk_that_may_only_be_read_is_refused_beforehand(full_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", full_disk], check=True)
    with pytest.raises(OSError, match=f"{full_disk}/a/b: cannot be written: {full_disk} is no writable folder"):
        storage.require_writable(f"{full_disk}/a/b")


def test_a_folder_that_we_may_not_write_in_is_refused_beforehand(tmp_path: Path) -> None:
    forbidden(tmp_path / "folder", 0o500)
    with pytest.raises(OSError, match="folder is no writable folder"):
        storage.require_writable(f"{tmp_path}/folder/a")


def test_a_folder_that_we_may_not_read_makes_no_listing_smaller(tmp_path: Path) -> None:
    storage.put(f"{tmp_path}/a", b"x")
    forbidden(tmp_path / "folder", 0)
    with pytest.raises(PermissionError, match="folder"):
        list(storage.list_objects(str(tmp_path)))


def test_what_can_be_written_is_not_refused_and_nothing_is_made(tmp_path: Path) -> None:
    storage.require_writable(f"{tmp_path}/a/b/c")
    (tmp_path / "file").write_bytes(b"x")
    storage.require_writable(f"{tmp_path}/file")
    assert names(tmp_path) == ["file"]


def test_a_folder_or_what_lies_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for write in (storage.require_writable, lambda uri: storage.put(uri, b"x"), lambda uri: storage.replace(uri, b"x")):
        with pytest.raises(IsADirectoryError, match="folder"):
            write(f"{tmp_path}/folder")
        with pytest.raises(NotADirectoryError, match="file"):
            write(f"{tmp_path}/file/below")
    assert names(tmp_path) == ["file", "folder"]


def test_a_folder_and_what_lies_below_a_file_are_no_objects(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for uri in (str(tmp_path), f"{tmp_path}/file/below"):
        assert not storage.exists(uri)
        with pytest.raises(FileNotFoundError, match="no such file"):
            storage.read(uri)
    assert list(storage.list_objects(f"{tmp_path}/file")) == []


def test_a_pipe_is_no_object_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not storage.exists(f"{tmp_path}/pipe")
    with pytest.raises(FileNotFoundError):
        storage.read(f"{tmp_path}/pipe")


def test_a_link_to_nothing_is_an_error_and_makes_no_listing_smaller(tmp_path: Path) -> None:
    """An unmounted disk looks like this."""
    storage.put(f"{tmp_path}/a", b"x")
    (tmp_path / "b").symlink_to(tmp_path / "unmounted")
    assert not storage.exists(f"{tmp_path}/b")
    with pytest.raises(FileNotFoundError, match="b: is a link to nothing"):
        list(storage.list_objects(str(tmp_path)))
    with pytest.raises(FileNotFoundError):
        storage.put(f"{tmp_path}/b", b"x")
    assert names(tmp_path) == ["a", "b"]


def test_links_are_followed(tmp_path: Path) -> None:
    storage.put(f"{tmp_path}/elsewhere/x", b"12345")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").symlink_to(tmp_path / "elsewhere" / "x")
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "elsewhere")
    found = list(storage.list_objects(f"{tmp_path}/data"))
    assert [(entry.uri, entry.size) for entry in found] == [
        (f"{tmp_path}/data/file", 5),
        (f"{tmp_path}/data/folder/x", 5),
    ]


def test_a_folder_within_itself_is_an_error(tmp_path: Path) -> None:
    storage.put(f"{tmp_path}/a", b"x")
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        list(storage.list_objects(str(tmp_path)))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_may_be_read_by_whom_the_umask_says_and_have_one_name(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        for name, write in zip("ab", WRITES, strict=True):
            write(f"{tmp_path}/{name}", b"x")
    finally:
        os.umask(before)
    for name in "ab":
        status = os.stat(tmp_path / name)
        assert (status.st_mode & 0o777, status.st_nlink) == (mode, 1)
    assert names(tmp_path) == ["a", "b"]


def test_on_a_disk_without_hard_links_the_same_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and some network disks have no links."""

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert storage.put(f"{tmp_path}/a", b"rows")
    assert not storage.put(f"{tmp_path}/a", b"rows")
    with pytest.raises(FileExistsError, match="a exists with other content"):
        storage.put(f"{tmp_path}/a", b"else")
    assert storage.read(f"{tmp_path}/a") == b"rows"
    assert names(tmp_path) == ["a"]


def test_a_reader_goes_on_with_what_it_opened(tmp_path: Path) -> None:
    storage.put(f"{tmp_path}/a", b"first" * 100_000)
    with storage.open_input(f"{tmp_path}/a") as stream:
        head = stream.read(5)
        storage.replace(f"{tmp_path}/a", b"second")
        assert head + stream.read() == b"first" * 100_000
    assert storage.read(f"{tmp_path}/a") == b"second"


def test_a_killed_writer_leaves_no_object_but_a_leftover_that_is_found(tmp_path: Path) -> None:
    """By SIGKILL, after which no code of the writer runs."""
    code = f"from pipelines import storage\nwhile True: storage.replace({f'{tmp_path}/a'!r}, bytes(50 << 20))"
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        while not (begun := storage.leftovers(str(tmp_path), -60)):
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)
    sizes = [entry.size for entry in storage.list_objects(str(tmp_path))]
    assert sizes in ([], [50 << 20])
    assert storage.leftovers(str(tmp_path), 60) == []
    for leftover in storage.leftovers(str(tmp_path), -60) + begun:
        storage.discard(leftover)
    assert names(tmp_path) == ["a"] * len(sizes)


def test_a_file_uri_and_a_home_folder_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage.put("~/a", b"x")
    assert storage.read(f"file://{tmp_path}/a") == b"x"
    assert storage.absolute("~/a") == f"{tmp_path}/a"
