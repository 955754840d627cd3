"""Covers pipelines.data.tar_samples on what GNU tar and other packers leave: orders, names, archives put together."""

import subprocess
from pathlib import Path

import pytest

from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.records import Reading, Sample
from tests.support.shard_files import as_ours, failure, members_of, read_all, tar_of, write_tar

SAMPLES = [Sample(key=f"{number:06d}", image=b"picture %d" % number, label=number) for number in range(4)]
TWO = SAMPLES[:2], SAMPLES[2:]


@pytest.fixture
def tree(tmp_path) -> Path:
    """A folder with the members of the four samples."""
    put(tmp_path / "tree", SAMPLES)
    return tmp_path / "tree"


def put(folder: Path, samples: list[Sample]) -> None:
    folder.mkdir(parents=True)
    for name, content in members_of(samples):
        (folder / name).write_bytes(content)


def gnu_tar(path: Path, *options: str | Path) -> Path:
    subprocess.run(["tar", "--create", f"--file={path}", *options], check=True)
    return path


def members(samples: list[Sample]) -> list[str]:
    return [name for name, _ in members_of(samples)]


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.zst"])
def test_every_format_of_gnu_tar_gives_the_samples(tree: Path, form: str, ending: str) -> None:
    long = "a" * (60 if form in {"v7", "ustar"} else 150)
    put(tree / long, SAMPLES)
    path = gnu_tar(tree / f"a.{ending}", "--auto-compress", f"--format={form}", "--sort=name", "-C", tree, long)
    assert [(s.key, s.image, s.label) for s in read_all(path)] == [
        (f"{long}/{s.key}", s.image, s.label) for s in SAMPLES
    ]


def test_folders_dots_labels_and_times_in_headers_change_no_key(tree: Path) -> None:
    plain = ["--sort=name", "-C", tree]
    assert read_all(gnu_tar(tree.parent / "a.tar", *plain, ".")) == SAMPLES
    assert read_all(gnu_tar(tree.parent / "b.tar", *plain, "--label=my pictures", ".")) == SAMPLES
    incremental = gnu_tar(tree.parent / "c.tar", f"--listed-incremental={tree.parent}/times", *plain, ".")
    assert read_all(incremental) == SAMPLES


def test_an_archive_that_was_added_to_has_all_its_samples(tree: Path) -> None:
    first, second = (members(part) for part in TWO)
    path = gnu_tar(tree.parent / "a.tar", "-C", tree, *first)
    subprocess.run(["tar", "--append", f"--file={path}", "-C", tree, *second], check=True)
    assert read_all(path) == SAMPLES
    path, other = (
        gnu_tar(tree.parent / f"{name}.tar", "-C", tree, *part) for name, part in (("b", first), ("c", second))
    )
    subprocess.run(["tar", "--concatenate", f"--file={path}", other], check=True)
    assert read_all(path) == SAMPLES


@pytest.mark.parametrize("command", ["cat", "gzip", "zstd"])
def test_archives_that_were_joined_byte_by_byte_are_refused_rather_than_read_in_part(tree: Path, command: str) -> None:
    """tar itself stops at the first archive's end, and gzip and Zstandard files may be joined."""
    whole = b"".join(
        subprocess.run([command], input=tar_of(members_of(part)), stdout=subprocess.PIPE, check=True).stdout
        for part in TWO
    )
    assert "an end of archive, and more after it" in failure(tree / "a.tar", whole)


@pytest.mark.parametrize("command", ["gzip", "zstd", "pzstd"])
def test_a_tar_compressed_in_several_parts_is_read_whole(tree: Path, command: str) -> None:
    data = tar_of(members_of(SAMPLES))
    parts = [data[:3000], data[3000:]]
    try:
        packed = [subprocess.run([command, "-c"], input=part, capture_output=True, check=True).stdout for part in parts]
    except FileNotFoundError:
        pytest.skip(f"{command} is not on this machine")
    (tree / "a.tar").write_bytes(b"".join(packed))
    assert read_all(tree / "a.tar") == SAMPLES
    assert failure(tree / "a.tar", b"".join(packed)[: len(packed[0]) + len(packed[1]) // 2])


UPDATED = "members of sample '000000' are not adjacent"


def test_an_updated_label_is_not_read_as_the_old_one(tree: Path) -> None:
    path = gnu_tar(tree.parent / "a.tar", "-C", tree, *members(SAMPLES))
    (tree / "000000.cls").write_text("7")
    subprocess.run(["tar", "--append", f"--file={path}", "-C", tree, "000000.cls"], check=True)
    assert failure(path).startswith(UPDATED)


TEXTS = {
    b"7\n": 7,
    b"7\r\n": 7,
    b" 7 ": 7,
    b"\xef\xbb\xbf7\n": 7,
    b"7.0": 7,
    b"007": 7,
    b"\xef\xbb\xbfn01443537\r\n": 1,
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_label_is_read_as_text_tools_write_it(tmp_path, text: bytes) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", text)])
    assert [(s.label, s.error) for s in read_all(tmp_path / "a.tar")] == [(TEXTS[text], None)]


@pytest.mark.parametrize("text", [b"", b"+7", b"7e0", b'"7"', b"tensor(7)", b"[7]", b"7 8", "7".encode("utf-16")])
def test_what_is_no_whole_number_is_a_row_with_a_reason(tmp_path, text: bytes) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", text)])
    (sample,) = read_all(tmp_path / "a.tar")
    assert (sample.label, sample.image, str(sample.error)[:10]) == (None, None, "bad label:")


NAMES = ["größe/猫", "/data/a", "../a", "./././a", "my pictures/a (1)", "http%3A%2F%2Fx%2Fa", "x.jpg/a", "a\\b"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_key(tmp_path, name: str) -> None:
    write_tar(tmp_path / "a.tar", [(f"{name}.JPG", b"x"), (f"{name}.CLS", b"1"), (f"{name}.SEG.PNG", b"y")])
    assert [(s.key, s.image, s.label) for s in read_all(tmp_path / "a.tar")] == [(name.removeprefix("./"), b"x", 1)]


@pytest.mark.parametrize("stem", ["v1.", "rgb.", "a.b.c."])
def test_masks_beside_pictures_with_dots_in_their_keys_are_no_samples(tmp_path, stem: str) -> None:
    groups = [[(f"{n}.{stem}jpg", b"x"), (f"{n}.{stem}cls", b"1"), (f"{n}.{stem}seg.png", b"y")] for n in range(3)]
    write_tar(tmp_path / "a.tar", [member for group in groups for member in group])
    assert [s.key for s in read_all(tmp_path / "a.tar")] == [f"{n}.{stem[:-1]}" for n in range(3)]
    write_tar(tmp_path / "b.tar", [member for group in groups for member in group if not member[0].endswith("cls")])
    assert [s.key for s in read_all(tmp_path / "b.tar")] == [f"{n}.{stem[:-1]}" for n in range(3)]


PLAIN, MASKS = [(f"{n}.jpg", b"x") for n in range(4)], [(f"{n}.seg.png", b"y") for n in range(4)]
NUMBERS = [(f"{n}.2.jpg", b"z") for n in range(4)]


@pytest.mark.parametrize("parts", [(PLAIN, MASKS), (MASKS, PLAIN)], ids=["masks last", "masks first"])
def test_masks_that_stand_apart_from_their_pictures_are_not_taken_for_samples(tmp_path, parts) -> None:
    reason = failure(tmp_path / "a.tar", tar_of([*parts[0], *parts[1]]))
    assert reason.startswith("members of sample '0' are not adjacent (rows 0 and 4); pack them by name")
    every = Reading(image_member="*").as_text()
    assert len(read_all(tmp_path / "a.tar", reading=every)) == 8
    assert len(read_all(tmp_path / "a.tar", **as_ours(tmp_path / "a.tar"))) == 8


@pytest.mark.parametrize("parts", [(PLAIN, NUMBERS), (MASKS, NUMBERS), (MASKS, [("m/0.jpg", b"x")])])
def test_pictures_of_other_keys_may_stand_anywhere(tmp_path, parts) -> None:
    write_tar(tmp_path / "a.tar", [*parts[0], *parts[1]])
    assert len(read_all(tmp_path / "a.tar")) == len([*parts[0], *parts[1]])


def frames(*first: str, count: int = 70) -> list[tuple[str, bytes]]:
    return [*((name, b"7") for name in first), *((f"v.{i:04d}.jpg", b"%d" % i) for i in range(count))]


def test_a_sample_of_very_many_pictures_is_read_by_the_option_and_else_refused_by_name(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "a.tar", frames("v.jpg", "v.cls"))
    (shard,) = find_dataset([str(tmp_path)]).shards
    with pytest.raises(read.ShardError, match=r"sample 'v' has more than 64 members .*; --image-member jpg takes one"):
        list(read.samples(shard))
    (shard,) = find_dataset([str(tmp_path)], reading=Reading(image_member="jpg")).shards
    (sample,) = read.samples(shard)
    assert (sample.key, sample.label, sample.image) == ("v", 7, b"7")
    (shard,) = find_dataset([str(tmp_path)], reading=Reading(image_member="*")).shards
    assert len(list(read.samples(shard))) == 71


def test_the_option_that_is_named_for_very_many_pictures_takes_one_of_them(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "a.tar", [("v.cls", b"7"), *((f"v.view{i}.jpg", b"%d" % i) for i in range(70))])
    (shard,) = find_dataset([str(tmp_path)]).shards
    with pytest.raises(read.ShardError, match=r"--image-member view0\.jpg takes one"):
        list(read.samples(shard))
    (shard,) = find_dataset([str(tmp_path)], reading=Reading(image_member="view0.jpg")).shards
    assert [(sample.label, sample.image) for sample in read.samples(shard)] == [(7, b"0")]


def test_very_many_numbered_pictures_are_samples(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "a.tar", frames())
    (shard,) = find_dataset([str(tmp_path)]).shards
    assert [sample.key for sample in read.samples(shard)] == [f"v.{i:04d}" for i in range(70)]


def test_labels_that_all_come_before_the_pictures_stand_apart_too(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "a.tar", [("a.cls", b"1"), ("b.cls", b"2"), ("a.jpg", b"x"), ("b.jpg", b"y")])
    (shard,) = find_dataset([str(tmp_path)]).shards
    with pytest.raises(read.ShardError, match="members of sample 'a' are not adjacent"):
        list(read.samples(shard))


def test_shards_in_hidden_folders_are_copies_of_editors_and_snapshots(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "val" / "0.tar", [("a.jpg", b"x")])
    write_tar(tmp_path / "val" / ".snapshot" / "0.tar", [("a.jpg", b"x")])
    assert [shard.name for shard in find_dataset([f"{tmp_path}/val"]).shards] == ["0"]
    assert [shard.name for shard in find_dataset([f"{tmp_path}/val/.snapshot"]).shards] == ["0"]


def test_json_that_arrow_cannot_hold_is_an_error_row(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.json", b'{"\\ud800": 1}')])
    (shard,) = find_dataset([str(tmp_path)], reading=Reading(label_member="json")).shards
    (chunk,) = read.chunks(0, shard, 4)
    assert chunk["errors"].to_pylist() == [["bad label: JSON without the field 'label'; it has \\ud800"]]
