"""Covers pipelines.data.other_formats: a source without shards says what it has and what to do."""

import pytest

from pipelines import storage
from pipelines.data.dataset import find_dataset

SEEN = {
    "shard.00000.mds index.json": ("MosaicML streaming shards (MDS): shard.00000.mds; read it with", "Parquet"),
    "train/shard.00000.mds.zstd train/shard.00001.mds.zstd": ("shard.00000.mds.zstd and 1 more", "WebDataset tars"),
    "val.tfrecord": ("TFRecord files: val.tfrecord", "WebDataset"),
    "validation-00000-of-00128 validation-00001-of-00128": ("TFRecord files: validation-00000", "WebDataset"),
    "a.tfrecord-00000-of-00002.gz": ("TFRecord files", "WebDataset"),
    "data.mdb lock.mdb": ("LMDB database: data.mdb and 1 more", "WebDataset"),
    "imagenet.lmdb": ("LMDB", "WebDataset"),
    "val.lance/data/0.lance val.lance/_versions/1.manifest": ("Lance dataset", "WebDataset"),
    "val.h5": ("HDF5 files: val.h5", "WebDataset"),
    "x.npz y.npy": ("NumPy files: x.npz and 1 more", "WebDataset"),
    "val.rec val.idx": ("MXNet RecordIO files: val.rec", "WebDataset"),
    "val.beton": ("FFCV files", "WebDataset"),
    "data-00000-of-00001.arrow dataset_info.json state.json": ("Arrow files", "load_from_disk(FOLDER).to_parquet"),
    "data_batch_1 data_batch_2 test_batch": ("Python pickles: data_batch_1 and 2 more", "WebDataset"),
    "t10k-images-idx3-ubyte.gz": ("MNIST's IDX files", "WebDataset"),
    "val.pq": ("Parquet files under another suffix: val.pq", "rename them"),
    "val.parquet.gzip": ("Parquet files under another suffix", "gunzip"),
    "val.tar.xz": ("tars in a compression that is not read", "gzip or zstd"),
    "val.tbz2": ("tars in a compression that is not read", "gzip or zstd"),
    "ImageNet-Sketch.zip README.txt": ("archives: ImageNet-Sketch.zip;", "unpack them"),
    "n01440764/a.JPEG n01443537/b.JPEG labels.csv": ("images: a.JPEG and 1 more", "jobs.pack_shards --images"),
    "a.bmp": ("images: a.bmp", "jobs.pack_shards --images"),
    "urls.csv": ("tables of text: urls.csv", "jobs.pack_shards --keys"),
    "README.md": ("there is README.md", ""),
    "README.md COPYING": ("there is COPYING and 1 more", ""),
}


def filled(folder, names: str) -> str:
    for name in names.split():
        storage.put(f"{folder}/{name}", b"")
    return str(folder)


def refusal(*sources: str) -> str:
    with pytest.raises(ValueError, match=r"no shard|not every file counts") as caught:
        find_dataset(sources)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("names", SEEN)
def test_a_folder_of_another_format_is_refused_with_what_was_seen_and_what_to_do(tmp_path, names: str) -> None:
    said = refusal(filled(tmp_path / "val", names))
    assert said.startswith(f"no shard (.tar, .tar.gz, .tgz, .tar.zst, .tzst, .parquet) under {tmp_path}/val; ")
    assert all(part in said for part in SEEN[names])


@pytest.mark.parametrize("name", ["val.zip", "val.h5", "photo.jpg", "val.mds"])
def test_so_is_a_single_file_and_a_glob_of_it(tmp_path, name: str) -> None:
    folder = filled(tmp_path, name)
    seen = refusal(folder).partition("; there are ")[2]
    for source in (f"{folder}/{name}", f"{folder}/*{name[3:]}", f"{folder}/{name[:-1]}?"):
        assert refusal(source).endswith(f" under {source}; there are {seen}")


def test_what_most_files_are_is_named(tmp_path) -> None:
    assert "images: a.jpg and 2 more" in refusal(filled(tmp_path, "a.jpg b.jpg c.jpg x.npy labels.csv"))


TABLES = {
    "part-0.parquet _delta_log/00000000000000000000.json": "a Delta table (_delta_log/",
    "data/a.parquet metadata/v1.metadata.json": "an Iceberg table (metadata/v1.metadata.json)",
    "a.parquet .hoodie/archived/x": "a Hudi table",
    "part-0.parquet _temporary/0/task_1/part-1.parquet": "a folder of an unfinished Spark job",
}


@pytest.mark.parametrize("names", TABLES)
def test_a_table_of_which_not_every_file_counts_is_refused_unless_they_are_named(tmp_path, names: str) -> None:
    folder = filled(tmp_path / "val", names)
    for source in (folder, f"{folder}/*.parquet"):
        assert f"{folder}/: is {TABLES[names]}" in refusal(source)
    (tmp_path / "list.txt").write_text(f"{folder}/{names.split()[0]}\n")
    assert len(find_dataset([str(tmp_path / "list.txt")]).shards) == 1


def test_a_table_beside_the_shards_that_are_named_is_nothing_to_them(tmp_path) -> None:
    filled(tmp_path, "val/a.tar other/_delta_log/0.json other/x.parquet")
    assert len(find_dataset([f"{tmp_path}/*/*.tar"]).shards) == 1
