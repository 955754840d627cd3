"""packing.archives: which files are archives of images, and what the others are called when they are refused."""

import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.packing import archives
from tests.support.image_archives import packed, picture, refused, tar_of, unpack, zip_of


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: gzip.compress(data)[:-9], "not a tar, or damaged"),
        (lambda data: gzip.compress(data)[:20], "not a tar, or damaged"),
        (lambda data: gzip.compress(b"text"), "not a tar, or damaged"),
        (lambda data: lzma.compress(data)[:-20], "not a tar, or damaged"),
        (lambda data: b"PAR1" + data, "is Parquet, no archive of images; jobs.evaluate --data reads it"),
        (lambda data: data[:600], "not a tar, or damaged"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "compressed by zstd; inflate it first: zstd -d"),
        (lambda data: zip_of({"1/a.jpg": b"x", "2/a.jpg": b"y"})[:-30], "not a tar, or damaged"),
        (lambda data: zip_of({"1/a.txt": b"x"}), "no image"),
    ],
)
def test_an_archive_that_is_damaged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], said: str
) -> None:
    (tmp_path / "t").write_bytes(change(tar_of({"1/a.jpg": b"x" * 700, "2/a.jpg": b"y" * 700})))
    assert said in refused(tmp_path / "t", capsys)


def test_a_flipped_bit_in_a_zip_is_found_by_its_checksum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = zip_of({"1/a.jpg": b"x" * 700, "2/a.jpg": b"y" * 700}, zipfile.ZIP_STORED)
    (tmp_path / "t.zip").write_bytes(data.replace(b"yyyy", b"yyzy", 1))
    assert "2/a.jpg is damaged" in refused(tmp_path / "t.zip", capsys)


def test_what_inflates_beyond_all_proportion_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LEAST", 1 << 16)
    (tmp_path / "t.tar.gz").write_bytes(gzip.compress(tar_of({"1/a.jpg": bytes(1 << 22), "2/a.jpg": b"x"})))
    assert "inflates to more than" in refused(tmp_path / "t.tar.gz", capsys)


def test_images_in_no_folder_of_an_archive_need_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.tar").write_bytes(tar_of({"1.jpg": b"1", "2.jpg": b"2"}))
    said = refused(tmp_path / "t.tar", capsys)
    assert "has no labels in it; give --devkit ILSVRC2012_devkit_t12.tar.gz, --labels FILE, or --classes none" in said
    assert list(packed(tmp_path / "t.tar", tmp_path / "out", "--classes", "none")) == ["1", "2"]


def test_a_shard_is_not_packed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "00000.tar").write_bytes(tar_of({"1.jpg": b"1", "1.cls": b"5"}))
    assert "is a shard already, with labels in its .cls members" in refused(tmp_path / "00000.tar", capsys)


def test_archives_in_place_of_images_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack({"train.zip": b"x", "README": b"x"}, tmp_path / "t")
    said = refused(tmp_path / "t", capsys)
    assert "no image" in said
    assert "among 2 files; --images takes a tar or zip itself, others are unpacked first: train.zip" in said


@pytest.mark.parametrize("classes", [(), ("--classes", "sorted")])
def test_a_shard_with_folders_in_its_keys_is_not_packed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: tuple[str, ...]
) -> None:
    files = {"1/a.jpg": b"1", "1/a.cls": b"5", "2/b.png": b"2", "2/b.cls": b"6"}
    (tmp_path / "0.tar").write_bytes(tar_of(files))
    (tmp_path / "0.zip").write_bytes(zip_of(files))
    unpack(files, tmp_path / "0")
    for name in ("0.tar", "0.zip", "0"):
        said = refused(tmp_path / name, capsys, *classes)
        assert "is a shard already, with labels in its .cls members (1/a.cls, 2/b.cls); jobs.evaluate --data" in said
    assert list(packed(tmp_path / "0", tmp_path / "out", "--classes", "none")) == ["1/a", "2/b"]


@pytest.mark.parametrize("suffix", ["gif", "BMP", "dib", "tif", "tiff", "avif"])
def test_a_picture_of_any_kind_that_is_decoded_is_a_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    files = {"1/a.jpg": b"a", f"2/b.{suffix}": b"b"}
    (tmp_path / "t.tar").write_bytes(tar_of(files))
    (tmp_path / "t.zip").write_bytes(zip_of(files))
    for name in ("t.tar", "t.zip"):
        assert packed(tmp_path / name, tmp_path / f"{name}.out") == {"1/a": (b"a", 1), "2/b": (b"b", 2)}
    unpack({**files, f"1/a.{suffix}": b"c"}, tmp_path / "t")
    capsys.readouterr()
    assert "would have the same key" in refused(tmp_path / "t", capsys)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
        ("a.rar", b"Rar!\x1a\x07", "is a RAR archive; unpack it first"),
        ("a.zip", b"PK\x05\x06" + bytes(18), "is an empty zip"),
        ("a.jpg", picture(1), "is one picture; give the folder that holds it"),
        ("a.heic", b"x" * 600, "is one picture; give the folder that holds it"),
        ("a.csv", b"uri,label\ns3://b/1.jpg,1\n", "is a table or list, no archive of images; --keys packs"),
        ("a.txt", b"", "is a table or list"),
    ],
)
def test_a_file_that_is_no_archive_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert f"{tmp_path}/{name}: {said}" in refused(tmp_path / name, capsys)


def test_an_archive_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(tar_of({"1/a.jpg": b"a", "2/b.jpg": b"b"}))
    assert list(packed(tmp_path / "t.txt", tmp_path / "out")) == ["1/a", "2/b"]


@pytest.mark.parametrize("system", [0, 3])
def test_a_zip_of_windows_may_write_backslashes(tmp_path: Path, system: int) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for name, data in {"set\\": b"", "set\\cat\\1.jpg": b"1", "set\\dog\\2.jpg": b"2"}.items():
            info = zipfile.ZipInfo(name)
            info.create_system = system
            archive.writestr(info, data)
    samples = packed(tmp_path / "t.zip", tmp_path / "out", "--classes", "sorted")
    assert samples == {"set/cat/1": (b"1", 0), "set/dog/2": (b"2", 1)}


def test_what_macos_adds_to_a_zip_is_no_class(tmp_path: Path) -> None:
    files = {"cat/1.jpg": b"1", "dog/2.jpg": b"2", "__MACOSX/": b"", "__MACOSX/cat/._1.jpg": b"x"}
    (tmp_path / "t.zip").write_bytes(zip_of(files))
    assert list(packed(tmp_path / "t.zip", tmp_path / "out", "--classes", "sorted")) == ["cat/1", "dog/2"]
