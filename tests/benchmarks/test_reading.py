"""Time to read shards without decoding, beside the libraries below: `make benchmark` prints the ratios.

Each way is timed in turn, several times, by processor time; the best of each counts. Asserts no times.
"""

import gzip
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.data import read
from tests.support.shard_files import Members, labelled, shard_at, tar_of

ROUNDS, PHOTOGRAPHS, SMALL = 5, 1000, 20_000
PHOTOGRAPH_BYTES, SMALL_BYTES = 110_000, 2_500
"""The mean of ImageNet's validation images, and an image of CIFAR as PNG."""


def samples(path: Path) -> None:
    for _ in read.samples(shard_at(path)):
        pass


def row_by_row(path: Path) -> None:
    """One row at a time, which bounds memory on files whose rows share a large value."""
    file = pq.ParquetFile(pa.BufferReader(storage.read(str(path))), page_checksum_verification=True)
    for batch in file.iter_batches(batch_size=1, columns=["key", "image", "label"]):
        batch.to_pylist()


def scan(path: Path) -> None:
    """Row groups as Arrow tables, of which nothing becomes an object of Python."""
    file = pq.ParquetFile(pa.BufferReader(storage.read(str(path))), page_checksum_verification=True)
    for group in range(file.num_row_groups):
        file.read_row_group(group, columns=["key", "image", "label"])


def python_scan(path: Path) -> None:
    """Row groups as Arrow tables, and each picture as bytes of Python."""
    file = pq.ParquetFile(pa.BufferReader(storage.read(str(path))), page_checksum_verification=True)
    for group in range(file.num_row_groups):
        file.read_row_group(group, columns=["key", "image", "label"]).to_pylist()


def plain_tarfile(path: Path) -> None:
    """The members by tarfile's stream."""
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|", bufsize=1 << 17) as tar:
        for member in tar:
            tar.members = []
            content = tar.extractfile(member)
            assert content
            content.read()


def best_times(path: Path, count: int, *ways: Callable[[Path], None]) -> dict[str, float]:
    """Microseconds of processor time for each image, by the way's name."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for way in ways:
            begin = time.process_time()
            way(path)
            took = (time.process_time() - begin) / count * 1e6
            best[way.__name__] = min(took, best.get(way.__name__, took))
    return best


def members(count: int, size: int) -> Members:
    return [member for i in range(count) for member in labelled(f"{i:06}", os.urandom(size), i % 1000)]


def parquet(path: Path, count: int, size: int, rows: int) -> Path:
    columns = {"key": [str(i) for i in range(count)], "image": [os.urandom(size) for _ in range(count)]}
    table = pa.table(columns | {"label": [i % 1000 for i in range(count)]})
    pq.write_table(table, path, row_group_size=rows, compression="snappy", write_page_checksum=True)
    return path


@pytest.mark.benchmark_run
@pytest.mark.timeout(600)
def test_reading_beside_the_libraries_below(tmp_path, capsys) -> None:
    data = tar_of(members(PHOTOGRAPHS, PHOTOGRAPH_BYTES))
    (tmp_path / "a.tar").write_bytes(data)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data, 1))
    lines = ["", "us of processor time for each image; how many times our own"]
    for path, count, ways in (
        (tmp_path / "a.tar", PHOTOGRAPHS, (plain_tarfile,)),
        (tmp_path / "a.tar.gz", PHOTOGRAPHS, (inflate,)),
        (parquet(tmp_path / "photographs.parquet", PHOTOGRAPHS, PHOTOGRAPH_BYTES, 256), PHOTOGRAPHS, PARQUET_WAYS),
        (parquet(tmp_path / "small.parquet", SMALL, SMALL_BYTES, 5000), SMALL, PARQUET_WAYS),
    ):
        times = best_times(path, count, samples, *ways)
        ours = times.pop("samples")
        others = ", ".join(f"{name} {took:.1f} ({took / ours:.2f})" for name, took in times.items())
        lines.append(f"{path.name:22} read.samples {ours:6.1f}; {others}")
    with capsys.disabled():
        print("\n".join(lines))


def inflate(path: Path) -> None:
    """gzip alone."""
    with gzip.open(path) as stream:
        while stream.read(1 << 20):
            pass


PARQUET_WAYS = (row_by_row, python_scan, scan)
