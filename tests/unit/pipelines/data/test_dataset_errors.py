"""Covers pipelines.data.dataset: sources that are an error, and the message that names them."""

import os
import re
from collections.abc import Sequence

import pytest

from pipelines import storage
from pipelines.data.dataset import find_dataset
from pipelines.data.manifest import begin


def test_an_interrupted_packing_is_no_dataset(tmp_path) -> None:
    begin(f"{tmp_path}/val")
    storage.put(f"{tmp_path}/val/00000.tar", b"")
    for source in (f"{tmp_path}/val", f"{tmp_path}/val/*.tar"):
        with pytest.raises(ValueError, match="val: packing was interrupted there"):
            find_dataset([source])


def test_a_hidden_shard_is_refused_since_its_cells_would_never_be_listed(tmp_path) -> None:
    storage.put(f"{tmp_path}/.x.tar", b"")
    with pytest.raises(ValueError, match="must not begin with a dot"):
        find_dataset([f"{tmp_path}/.x.tar"])


def refused(sources: Sequence[str], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        find_dataset(sources)


def test_an_empty_dataset_is_refused_by_name(fill, store: str) -> None:
    folder = fill("README.md", "a.tar.xz")
    good = fill("a.tar", folder="good")
    refused([], ValueError, r"no shard \(\.tar, .*\.parquet\) under an empty --data")
    refused([folder], ValueError, r"no shard \(\.tar, .*\.parquet\) under .*/val")
    refused([good, folder], ValueError, r"no shard .* under .*/val; there are tars in a compression that is not read: ")
    storage.put(f"{store}/empty.txt", b"# nothing yet\n\n")
    refused([f"{store}/empty.txt"], ValueError, r"no shard .* under .*/empty\.txt")


def test_what_is_not_there_is_named_even_beside_what_is(fill) -> None:
    folder = fill("a.tar", "sub/b.tar")
    missing = (FileNotFoundError, ValueError)
    named = {"{a,c}.tar": "c.tar", "no/such/*.tar": "no/such"}
    for source in ("typo", "b.tar", "a*.parquet", "list.txt", "a.tar.gz", *named):
        with pytest.raises(missing, match=re.escape(f"val/{named.get(source, source)}")):
            find_dataset([f"{folder}/sub", f"{folder}/{source}"])


def test_a_local_path_that_is_not_there_is_a_file_not_found(tmp_path) -> None:
    refused([f"{tmp_path}/typo"], FileNotFoundError, "typo: no such folder, and not a shard")
    refused([f"{tmp_path}/a.tar"], FileNotFoundError, r"a\.tar: no such file")
    refused([f"{tmp_path}/*.tar"], FileNotFoundError, r"\*\.tar: matches no shard")
    refused([f"{tmp_path}/list.txt"], FileNotFoundError, r"list\.txt: no such file")


@pytest.mark.parametrize("pattern", ["{a,b", "a}.tar", "{00..09.tar", "{a,{b}.tar"])
def test_unbalanced_braces_are_refused_by_name(tmp_path, pattern: str) -> None:
    with pytest.raises(ValueError, match="alanced") as caught:
        find_dataset([f"{tmp_path}/{pattern}"])
    assert pattern in str(caught.value)


def test_an_unknown_scheme_is_refused() -> None:
    refused(["gs://bucket/val"], ValueError, "unknown scheme 'gs'")


def test_two_shards_of_one_name_are_refused(fill) -> None:
    folder = fill("a.tar", "a.tgz", "b.tar")
    refused([folder], ValueError, r"two shards named 'a': .*/a\.tar and .*/a\.tgz")
    refused([f"{folder}/b.tar", f"{folder}/b*"], ValueError, r"two shards named 'b': .*/b\.tar and .*/b\.tar")


def test_one_file_reached_by_two_spellings_is_refused(tmp_path, monkeypatch) -> None:
    storage.put(f"{tmp_path}/val/a.tar", b"")
    monkeypatch.chdir(tmp_path)
    refused(["val", "./val/a.tar"], ValueError, "two shards named 'a'")
    refused(["val", f"val/../val{os.sep}a.tar"], ValueError, "two shards named 'a'")


def test_a_damaged_manifest_is_refused_rather_than_taken_for_none(fill) -> None:
    folder = fill("a.tar")
    storage.put(f"{folder}/manifest.json", b"{}")
    refused([folder], ValueError, r"val/manifest\.json is damaged")


def test_a_list_that_lists_itself_is_refused(tmp_path) -> None:
    storage.put(f"{tmp_path}/a.txt", f"{tmp_path}/b.txt".encode())
    storage.put(f"{tmp_path}/b.txt", f"{tmp_path}/a.txt".encode())
    with pytest.raises(ValueError, match=r"a\.txt: lists itself"):
        find_dataset([f"{tmp_path}/a.txt"])
