"""Covers pipelines.data.columns and parquet_samples on what other writers leave: types, names, folders, no rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.records import Reading
from tests.support.shard_files import failure, parquet_of, read_all

IMAGES = [b"one", b"two"]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def put(path: Path, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet_of(**columns))
    return path


HELD = {
    "binary": pa.array(IMAGES, pa.binary()),
    "large binary": pa.array(IMAGES, pa.large_binary()),
    "binary view": pa.array(IMAGES, pa.binary_view()),
    "fixed binary": pa.array(IMAGES, pa.binary(3)),
    "dictionary": pa.array(IMAGES).dictionary_encode(),
    "list": pa.array([list(image) for image in IMAGES], pa.list_(pa.uint8())),
    "large list": pa.array([list(image) for image in IMAGES], pa.large_list(pa.uint8())),
    "fixed list": pa.array([list(image) for image in IMAGES], pa.list_(pa.uint8(), 3)),
    "struct": pa.array([{"bytes": image, "path": None} for image in IMAGES], STRUCT),
    "struct alone": pa.array([{"bytes": image} for image in IMAGES]),
}


@pytest.mark.parametrize("kind", HELD)
def test_bytes_are_read_from_whatever_type_holds_them(tmp_path, kind: str) -> None:
    samples = read_all(put(tmp_path / "a.parquet", key=["a", "b"], image=HELD[kind], label=[1, 2]))
    assert [(s.key, s.image, s.label, s.error) for s in samples] == [("a", b"one", 1, None), ("b", b"two", 2, None)]


NO_BYTES = {
    "text": pa.array(["s3://bucket/a.jpg"]),
    "list of binary": pa.array([[b"one"]]),
    "list of struct": pa.array([[{"bytes": b"one"}]]),
    "list of int8": pa.array([[1, 2]], pa.list_(pa.int8())),
    "list of int64": pa.array([[1, 2]]),
    "map": pa.array([[("jpg", b"one")]], pa.map_(pa.string(), pa.binary())),
    "Spark's decoded pictures": pa.array([{"origin": "file:/a.jpg", "mode": 16, "data": b"one"}]),
}


@pytest.mark.parametrize("kind", NO_BYTES)
def test_an_image_column_that_holds_no_bytes_fails_the_shard_with_its_type(tmp_path, kind: str) -> None:
    reason = failure(tmp_path / "a.parquet", parquet_of(key=["a"], image=NO_BYTES[kind]))
    assert reason.startswith(
        f"no column of encoded pictures; it has key (string), image ({str(NO_BYTES[kind].type)[:4]}"
    )


def test_bytes_beside_an_image_column_of_paths_are_the_pictures(tmp_path) -> None:
    put(tmp_path / "a.parquet", image=["x/a.jpg", "x/b.jpg"], bytes=IMAGES)
    assert [sample.image for sample in read_all(tmp_path / "a.parquet")] == IMAGES


def test_decoded_pictures_are_refused_with_what_to_write(tmp_path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 4, 4, 3), np.uint8))
    remedy = "decoded pictures are not read: store the bytes of their files"
    assert remedy in failure(tmp_path / "a.parquet", parquet_of(key=["a", "b"], image=tensors))
    # As Ray's own types are read where Ray has not registered them.
    named = pa.field("image", pa.large_list(pa.uint8()), metadata={"ARROW:extension:name": "another.arrow_tensor"})
    table = pa.table([pa.array([[1], [2]], named.type)], schema=pa.schema([named]))
    pq.write_table(table, tmp_path / "b.parquet")
    assert remedy in failure(tmp_path / "b.parquet")


def test_a_table_of_links_says_how_pictures_elsewhere_are_packed(tmp_path) -> None:
    reason = failure(tmp_path / "a.parquet", parquet_of(url=["http://x/a.jpg"], caption=["a cat"]))
    assert reason.endswith("pictures that lie elsewhere are packed by jobs.pack_shards --images or --keys")


@pytest.mark.parametrize("name", ["key", "image", "label"])
def test_two_columns_of_one_name_fail_the_shard(tmp_path, name: str) -> None:
    columns = {"key": pa.array(["a"]), "image": pa.array([b"x"]), "label": pa.array([1])}
    pq.write_table(
        pa.Table.from_arrays([*columns.values(), columns[name]], names=[*columns, name]), tmp_path / "a.parquet"
    )
    assert failure(tmp_path / "a.parquet").startswith(f"two columns are named {name}; it has key, image, label")


def test_keys_that_are_stored_as_bytes_are_text(tmp_path) -> None:
    put(tmp_path / "a.parquet", key=["ä".encode(), b"\xff"], image=IMAGES)
    assert [sample.key for sample in read_all(tmp_path / "a.parquet")] == ["ä", "\\xff"]


PATHS = {
    ("n1/a.jpg", "n2/b.png"): ["n1/a", "n2/b"],
    ("a.jpg", None): ["a", "val#1"],
    (None, None): ["val#0", "val#1"],
    ("0001.jpg", "0001.jpg"): ["val#0", "val#1"],
    ("0001.jpg", "0001.png"): ["val#0", "val#1"],
}


@pytest.mark.parametrize("paths", PATHS)
def test_paths_in_the_pictures_are_keys_only_if_no_two_are_equal(tmp_path, paths) -> None:
    column = pa.array([{"bytes": b, "path": path} for b, path in zip(IMAGES, paths, strict=True)], STRUCT)
    pq.write_table(pa.table({"image": column}), tmp_path / "val.parquet", row_group_size=1)
    assert [(sample.key, sample.error) for sample in read_all(tmp_path / "val.parquet")] == [
        (key, None) for key in PATHS[paths]
    ]


FOLDERS = {
    "label=3": [3, 3],
    "Label=3": [3, 3],
    "class=n01443537": [1, 1],
    "label=%33": [3, 3],
    "label=__HIVE_DEFAULT_PARTITION__": [None, None],
    "label=3/class=4": [3, 3],
    "split=test": [None, None],
    "n01443537": [None, None],
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_name_the_label_as_hive_does(tmp_path, folder: str) -> None:
    put(tmp_path / folder / "a.parquet", key=["a", "b"], image=IMAGES)
    (shard,) = find_dataset([str(tmp_path)]).shards
    assert [(sample.label, sample.error) for sample in read.samples(shard)] == [(n, None) for n in FOLDERS[folder]]


def test_folders_above_the_dataset_give_no_label_as_they_are_in_no_cells_path(tmp_path) -> None:
    put(tmp_path / "label=3" / "d" / "a.parquet", key=["a"], image=[b"x"])
    (shard,) = find_dataset([f"{tmp_path}/label=3/d"]).shards
    assert [sample.label for sample in read.samples(shard)] == [None]


def test_folders_of_two_labels_are_told_apart_by_the_option(tmp_path) -> None:
    put(tmp_path / "class=3" / "target=4" / "category=5" / "a.parquet", key=["a"], image=[b"x"])
    (shard,) = find_dataset([str(tmp_path)]).shards
    with pytest.raises(read.ShardError, match="folders class and target could be meant; --label-column says which"):
        list(read.samples(shard))
    for name, label in {"class": 3, "target": 4, "category": 5}.items():
        (shard,) = find_dataset([str(tmp_path)], reading=Reading(label_column=name)).shards
        assert [sample.label for sample in read.samples(shard)] == [label]


def test_a_label_that_differs_from_its_folder_is_a_row_with_a_reason(tmp_path) -> None:
    for column in ("label", "cls"):
        put(tmp_path / column / "label=3" / "a.parquet", key=["a", "b"], image=IMAGES, **{column: [3, 4]})
        (shard,) = find_dataset([str(tmp_path / column)]).shards
        samples = [(sample.label, sample.error) for sample in read.samples(shard)]
        assert samples[0] == (3, None)
        assert samples[1][1].startswith("bad label: 4 in a folder")


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_any_codec_and_any_empty_row_groups_give_every_row(tmp_path, codec: str) -> None:
    table = pa.table({"key": ["a", "b"], "image": IMAGES, "label": [1, 2]})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, compression=codec, data_page_version="2.0") as writer:
        for part in (table[:0], table[:1], table[:0], table[1:], table[:0]):
            writer.write_table(part)
    assert [sample.key for sample in read_all(tmp_path / "a.parquet")] == ["a", "b"]
    pq.ParquetWriter(tmp_path / "b.parquet", table.schema).close()
    assert read_all(tmp_path / "b.parquet") == []


@pytest.mark.parametrize("column", ["label", "cls", "class"])
def test_truth_values_are_bad_labels_under_any_usual_name(tmp_path, column: str) -> None:
    put(tmp_path / "a.parquet", key=["a", "b"], image=IMAGES, **{column: [True, False]})
    assert [sample.error for sample in read_all(tmp_path / "a.parquet")] == [
        f"bad label: {value} is not an integer" for value in (True, False)
    ]
