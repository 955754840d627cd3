"""Covers bit flips in cells, shards and transfers: of two hundred random ones, each is detected."""

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.cells.cell import encode_cell, read_cell
from pipelines.data import read
from pipelines.models import mirror
from pipelines.records import Sample, Shard
from tests.support.cell_rows import COLUMN, cell_rows
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import WebFiles
from tests.support.shard_files import shard_at, write_both
from zoo.weights.wanted import Wanted

FLIPS = 200
SAMPLES = [Sample(key=str(i), image=os.urandom(900), label=i) for i in range(6)]


def flips(content: bytes) -> Iterator[bytes]:
    """`content` with one bit flipped, again and again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it where a test fails
    for bit in random.Random(seed).sample(range(8 * len(content)), FLIPS):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def undetected(content: bytes, accepts: Callable[[bytes], bool]) -> int:
    assert accepts(content)
    return sum(accepts(flipped) for flipped in flips(content))


def chunks(shard: Shard) -> list[dict]:
    return [chunk.to_pylist()[0] for chunk in read.chunks(0, shard, 4)]


@pytest.mark.parametrize("form", [0, 1], ids=["tar", "parquet"])
def test_at_rest_in_a_shard_with_a_manifest(tmp_path: Path, form: int) -> None:
    path = write_both(tmp_path, SAMPLES)[form]
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()

    def accepts(data: bytes) -> bool:
        path.write_bytes(data)
        return chunks(shard_at(path, rows=len(SAMPLES), sha256=digest))[-1]["last"]

    assert undetected(content, accepts) == 0


def test_at_rest_in_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "cell.parquet"

    def accepts(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            return read_cell(str(path), COLUMN.classes_kept).num_rows == 40
        except ValueError:
            return False

    shard = Shard(name="00000", uri="/data/00000.tar", size=1000, etag="e")
    assert undetected(encode_cell(COLUMN, shard, cell_rows(40)), accepts) == 0


@pytest.mark.parametrize("place", ["cache", "own file"])
def test_at_rest_in_weights(tmp_path: Path, new_machine: Callable[[], Path], web: WebFiles, place: str) -> None:
    """A damaged copy in the cache is fetched again, and here there is nowhere to fetch it from."""
    content, cache = os.urandom(20_000), new_machine()
    path = cache / "w.pth" if place == "cache" else tmp_path / "w.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"{web.url}/gone" if place == "cache" else str(path)
    wanted = Wanted(file="w.pth", sha256=hashlib.sha256(content).hexdigest(), sources=(source,))

    def accepts(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            return mirror.obtain(wanted) == path
        except (ValueError, FileNotFoundError):
            return False

    assert undetected(content, accepts) == 0


@pytest.fixture
def remote(faulty_s3: tuple[str, FaultProxy], tmp_path: Path) -> tuple[str, FaultProxy]:
    """A folder in S3 with a tar and a Parquet shard, a cell and weights, behind a proxy."""
    uri, proxy = faulty_s3
    for path in write_both(tmp_path, SAMPLES):
        storage.put_file(f"{uri}/{path.name}", path)
    shard = Shard(name="00000", uri="/data/00000.tar", size=1000, etag="e")
    storage.put(f"{uri}/cell", encode_cell(COLUMN, shard, cell_rows(40)))
    storage.put(f"{uri}/weights.pth", bytes(range(256)) * 80)
    return uri, proxy


@pytest.mark.parametrize("name", ["a.tar", pytest.param("a.parquet", marks=pytest.mark.slow)])
def test_on_the_way_from_the_store_in_a_shard_with_a_manifest(remote, tmp_path: Path, name: str) -> None:
    """It is read again at once, or in the next round: what is flipped on the way does not condemn it."""
    uri, proxy = remote
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    shard = shard_at(f"{uri}/{name}", rows=len(SAMPLES), sha256=digest)
    calm = chunks(shard)
    for _ in range(FLIPS):
        proxy.faults[:] = [Fault("bitflip", match="^GET .*a[.]", times=1)]
        found = chunks(shard)
        assert found == calm or found[-1]["transient"]
    assert proxy.counts["bitflip"] == FLIPS
    assert chunks(shard) == calm


@pytest.mark.slow
def test_on_the_way_from_the_store_in_a_cell(remote) -> None:
    uri, proxy = remote
    before = read_cell(f"{uri}/cell", COLUMN.classes_kept)
    for _ in range(FLIPS):
        proxy.faults[:] = [Fault("bitflip", match="^GET", times=1)]
        assert read_cell(f"{uri}/cell", COLUMN.classes_kept) == before
    assert proxy.counts["bitflip"] == FLIPS


def test_on_the_way_from_the_store_in_weights(remote, new_machine: Callable[[], Path]) -> None:
    """A new machine each time. They are refused, nothing is kept, and the next attempt has them."""
    uri, proxy = remote
    content = bytes(range(256)) * 80
    wanted = Wanted(file="w.pth", sha256=hashlib.sha256(content).hexdigest(), sources=(f"{uri}/weights.pth",))
    for _ in range(FLIPS):
        cache = new_machine()
        proxy.faults[:] = [Fault("bitflip", match="^GET", times=1)]
        with pytest.raises(FileNotFoundError, match="SHA-256"):
            mirror.obtain(wanted)
        assert not (cache / "w.pth").exists()
    assert proxy.counts["bitflip"] == FLIPS
    assert mirror.obtain(wanted).read_bytes() == content
