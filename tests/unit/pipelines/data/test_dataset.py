"""Covers pipelines.data.dataset: which shards a source names, their names and order, digests, and manifests."""

import os
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.data.dataset import find_dataset
from pipelines.data.manifest import Labels, Manifest, PackedShard, write_manifest
from pipelines.records import Shard, short_digest


def names(*sources: str) -> list[str]:
    return [shard.name for shard in find_dataset(sources).shards]


def promise(folder: str, *shards: str, labels: Labels | None = None) -> None:
    packed = [PackedShard(name=name, size=len(name), rows=7, sha256="a" * 64) for name in shards]
    labels = labels or Labels(min=None, max=None, count=0)
    write_manifest(folder, Manifest(samples=7 * len(packed), labels=labels, shards=tuple(packed)))


def test_a_folder_is_its_shards_by_name_and_nothing_else(fill) -> None:
    folder = fill("b.tar", "a.parquet", "c.tar.xz", "README.md", ".hidden.tar", "tar", "d.v1.tar")
    assert names(folder) == names(folder + "/") == ["a", "b", "d.v1"]
    dataset = find_dataset([folder])
    assert dataset.name == "val"
    assert dataset.source == folder
    assert [shard.uri for shard in dataset.shards] == [
        f"{folder}/{name}" for name in ("a.parquet", "b.tar", "d.v1.tar")
    ]
    assert [shard.size for shard in dataset.shards] == [9, 5, 8]
    assert all(shard.etag for shard in dataset.shards)


def test_shards_in_nested_folders_are_named_by_their_path(fill) -> None:
    folder = fill("a.tar", "x/a.tar", "x/y/a.parquet")
    assert names(folder) == ["a", "x/a", "x/y/a"]
    assert names(f"{folder}/x") == ["a", "y/a"]
    assert names(f"{folder}/x/y") == names(f"{folder}/x/y/a.parquet") == ["a"]


def test_names_are_below_the_deepest_folder_that_all_shards_share(fill) -> None:
    folder = fill("train1/a.tar", "train2/a.tar", "trainings/deep/a.tar")
    assert names(f"{folder}/train1", f"{folder}/train2") == ["train1/a", "train2/a"]
    assert names(f"{folder}/trainings/deep/a.tar", f"{folder}/train1") == ["trainings/deep/a", "train1/a"]
    assert find_dataset([f"{folder}/train1", f"{folder}/train2"]).name == "val"
    assert find_dataset([f"{folder}/train1"]).name == "train1"


def test_a_glob_matches_shards_only_and_a_star_crosses_folders(fill) -> None:
    folder = fill("a1.tar", "a2.tar", "a10.parquet", "b1.tar", "a3.txt", "x/a4.tar", "A5.tar")
    assert names(f"{folder}/a?.tar") == ["a1", "a2"]
    assert names(f"{folder}/a[2-9].tar") == ["a2"]
    assert names(f"{folder}/a*") == ["a1", "a10", "a2"]
    assert names(f"{folder}/*a4.tar") == ["x/a4"]
    assert names(f"{folder[:-1]}?/a1.tar") == ["val/a1"]


def test_braces_are_ranges_and_lists_in_their_own_order(fill) -> None:
    folder = fill("08.tar", "09.tar", "10.tar", "11.tar", "x.parquet")
    assert names(f"{folder}/{{08..10}}.tar") == ["08", "09", "10"]
    assert names(f"{folder}/{{x.parquet,09.tar}}") == ["x", "09"]
    assert names(f"{folder}/{{1*,0*}}.tar") == ["10", "11", "08", "09"]


def test_a_list_names_one_source_a_line(fill, store: str) -> None:
    folder = fill("a.tar", "b.tar", "c d.tar", "e.tar")
    text = f"# the good ones\n\n{folder}/b.tar\r\n  {folder}/c d.tar \n{folder}/[a].tar\n\n{store}/more.txt"
    storage.put(f"{store}/list.txt", text.encode())
    storage.put(f"{store}/more.txt", f"{folder}/{{e..e}}.tar".encode())
    assert names(f"{store}/list.txt") == ["b", "c d", "a", "e"]


def test_sources_keep_their_order(fill) -> None:
    folder = fill("z/1.tar", "a/1.tar", "a/2.tar", "m.tar")
    assert names(f"{folder}/z", f"{folder}/m.tar", f"{folder}/a") == ["z/1", "m", "a/1", "a/2"]


def test_local_paths_are_named_alike_however_they_are_written(tmp_path, monkeypatch) -> None:
    for name in ("val/1.tar", "val/2.tar"):
        storage.put(f"{tmp_path}/{name}", b"")
    monkeypatch.chdir(tmp_path / "val")
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = [".", "./", "*.tar", "?.tar", "{1,2}.tar", "../val", f"file://{tmp_path}/val", "~/val"]
    for source in spellings:
        dataset = find_dataset([source])
        assert (dataset.name, [shard.name for shard in dataset.shards]) == ("val", ["1", "2"]), source
    assert {find_dataset([source]).digest for source in spellings} == {find_dataset([str(tmp_path / "val")]).digest}


@pytest.mark.parametrize("source", ["..", "../", "../../val", "x/.."])
def test_a_dataset_is_never_named_dot_dot(tmp_path, monkeypatch, source: str) -> None:
    storage.put(f"{tmp_path}/val/x/1.tar", b"")
    storage.put(f"{tmp_path}/val/2.tar", b"")
    monkeypatch.chdir(tmp_path / "val" / ("x" if source != "x/.." else ""))
    assert find_dataset([source]).name == "val"


def test_stores_may_be_mixed(tmp_path, s3_server: str, monkeypatch) -> None:
    folder = f"{s3_server}/mixed-{tmp_path.name}"
    storage.put(f"{folder}/1.tar", b"")
    storage.put(f"{tmp_path}/val/1.tar", b"")
    dataset = find_dataset([folder, f"{tmp_path}/val"])
    assert dataset.name == "dataset"
    bucket = folder.removeprefix("s3://")
    assert [shard.name for shard in dataset.shards] == [f"{bucket}/1", f"{tmp_path}/val/1".lstrip("/")]


def test_a_shard_added_in_a_new_folder_leaves_the_names_of_the_others(tmp_path) -> None:
    storage.put(f"{tmp_path}/val/p0/a.tar", b"")
    before = find_dataset([f"{tmp_path}/val"])
    storage.put(f"{tmp_path}/val/p1/b.tar", b"")
    after = find_dataset([f"{tmp_path}/val"])
    assert (before.name, after.name) == ("val", "val")
    assert after.shards[: len(before.shards)] == before.shards


def test_a_folder_may_be_called_like_a_shard(tmp_path) -> None:
    storage.put(f"{tmp_path}/val.tar/1.tar", b"")
    assert names(f"{tmp_path}/val.tar") == ["1"]


SHARD = Shard(name="a", uri="/x/a.tar", size=1, etag="e", rows=7, sha256="a" * 64)


def changed(**fields: object) -> Shard:
    values = {field: getattr(SHARD, field) for field in Shard.__slots__}
    return Shard(**values | fields)


@pytest.mark.parametrize("field", [{"name": "b"}, {"size": 2}, {"etag": "f"}, {"limit": 1}])
def test_a_digest_changes_with_what_a_shard_holds(field: dict) -> None:
    assert changed(**field).digest != SHARD.digest


@pytest.mark.parametrize("field", [{"uri": "s3://b/a.tar"}, {"rows": None}, {"rows": 8}])
def test_a_digest_does_not_change_with_where_a_shard_lies_or_what_is_promised(field: dict) -> None:
    assert changed(**field).digest == SHARD.digest


def test_a_digest_is_pinned_since_cells_are_found_by_it() -> None:
    assert SHARD.digest == short_digest(["a", 1, "e", "a" * 64, None])


def test_content_order_and_what_a_manifest_promises_change_the_digest_of_a_dataset(fill) -> None:
    folder = fill("a.tar", "b.tar")
    before = find_dataset([folder])
    assert find_dataset([folder]).digest == before.digest
    assert find_dataset([f"{folder}/b.tar", f"{folder}/a.tar"]).digest != before.digest
    assert find_dataset([f"{folder}/a.tar"]).digest != before.digest
    promise(folder, "a.tar", "b.tar")
    promised = find_dataset([folder])
    assert promised.digest != before.digest
    before = promised
    storage.replace(f"{folder}/a.tar", b"other")
    after = find_dataset([folder])
    assert after.shards[0].digest != before.shards[0].digest
    assert after.shards[1].digest == before.shards[1].digest


def test_rows_sums_and_labels_come_from_the_manifests(fill) -> None:
    folder = fill("x/a.tar", "x/b.tar", "y/a.tar", "z/a.tar", "u/a.tar")
    promise(f"{folder}/x", "a.tar", "b.tar", labels=Labels(min=3, max=9, count=14))
    promise(f"{folder}/y", "a.tar", labels=Labels(min=0, max=5, count=7))
    promise(f"{folder}/u", "a.tar")
    dataset = find_dataset([folder])
    assert [(shard.name, shard.rows) for shard in dataset.shards] == [
        ("u/a", 7), ("x/a", 7), ("x/b", 7), ("y/a", 7), ("z/a", None)
    ]  # fmt: skip
    assert {shard.sha256 for shard in dataset.shards} == {"a" * 64, None}
    assert dataset.labels == (0, 9)
    assert find_dataset([f"{folder}/u"]).labels is find_dataset([f"{folder}/z"]).labels is None


@pytest.mark.parametrize("source", ["{}", "{}/", "{}/x", "{}/{{x,y}}", "{}/y {}/x"])
def test_a_folder_that_lacks_a_promised_shard_is_refused_wherever_it_lies(fill, source: str) -> None:
    folder = fill("x/a.tar", "x/c.tar", "y/a.tar")
    promise(f"{folder}/x", "a.tar", "b.tar", "c.tar")
    with pytest.raises(ValueError, match=r"val/x: 1 of the 3 shards in its manifest are missing: b\.tar$"):
        find_dataset(source.format(folder, folder).split())


def test_shards_named_one_by_one_need_not_be_all_that_the_manifest_promises(fill) -> None:
    folder = fill("a.tar", "b.tar", "more/a.tar")
    promise(folder, "a.tar", "b.tar", "c.tar")
    assert names(f"{folder}/a.tar") == names(f"{folder}/a*.tar") == names(f"{folder}/{{a..a}}.tar") == ["a"]
    assert find_dataset([f"{folder}/a.tar"]).shards[0].rows == 7
    assert names(f"{folder}/more") == ["a"]


def test_finding_reads_no_shard(tmp_path: Path) -> None:
    storage.put(f"{tmp_path}/a.tar", b"not a tar at all")
    os.chmod(tmp_path / "a.tar", 0)
    assert names(str(tmp_path)) == ["a"]


def test_brackets_and_braces_of_a_path_that_exists_are_letters(tmp_path) -> None:
    for name in ("we[i]rd", "br{a,b}ce"):
        storage.put(f"{tmp_path}/{name}/1.tar", b"")
        assert find_dataset([f"{tmp_path}/{name}"]).name == name
        assert names(f"{tmp_path}/{name}") == ["1"]


def test_a_list_may_begin_with_a_byte_order_mark_and_must_be_text(tmp_path) -> None:
    storage.put(f"{tmp_path}/1.tar", b"")
    storage.put(f"{tmp_path}/good.txt", b"\xef\xbb\xbf" + f"{tmp_path}/1.tar".encode())
    storage.put(f"{tmp_path}/bad.txt", b"\xff\xfe\x00")
    assert names(f"{tmp_path}/good.txt") == ["1"]
    with pytest.raises(ValueError, match=r"bad\.txt: not a list of shards"):
        find_dataset([f"{tmp_path}/bad.txt"])


def test_suffixes_of_shards_count_in_any_case_and_are_no_part_of_a_name(tmp_path) -> None:
    shards = ["a.TAR", "b.tar.gz", "c.tgz", "d.tar.zst", "e.Parquet", "f.v1.tar.gz", "g.tzst"]
    for name in shards:
        storage.put(f"{tmp_path}/val/{name}", b"")
    assert names(f"{tmp_path}/val") == names(*[f"{tmp_path}/val/{name}" for name in shards])
    assert names(f"{tmp_path}/val") == ["a", "b", "c", "d", "e", "f.v1", "g"]


@pytest.mark.parametrize("name", ["2.tar.xz", "2.TAR.BZ2", "2.zip", "2.parquet.gz"])
def test_files_that_look_like_shards_are_left_out_aloud(tmp_path, caplog, name: str) -> None:
    storage.put(f"{tmp_path}/val/1.tar", b"")
    storage.put(f"{tmp_path}/val/{name}", b"")
    assert names(f"{tmp_path}/val") == ["1"]
    assert f"val/{name}" in caplog.text
