"""packing.pack: the same bytes each time, nothing lost or changed, interruptions completed, packings never mixed."""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.data.manifest import PackedShard, read_manifest
from pipelines.packing.images import Image
from pipelines.packing.pack import Target, pack, parquet_bytes, tar_bytes

NAMES = ["a.jpg", "b.c/d.e.PNG", "with space.webp", "Ünï/猫.jpeg", f"{'long/' * 30}{'x' * 120}.jpg", "z.jpg"]
FORMATS = ["tar", "parquet"]


def make(folder: Path, names: Sequence[str] = NAMES) -> list[Image]:
    """Images in one file, the second empty, every third without a label."""
    folder.mkdir(exist_ok=True)
    (folder / "file").write_bytes(b"".join(b"bytes %02d" % number for number in range(len(names))))
    where = str(folder / "file")
    return [
        Image(name=name, label=None if n % 3 == 2 else n, path=where, start=8 * n, size=0 if n == 1 else 8)
        for n, name in enumerate(names)
    ]


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    return make(tmp_path / "source")


def ignore(shard: PackedShard) -> None:
    pass


def contents(uri: str) -> dict[str, bytes]:
    return {entry.uri.removeprefix(f"{uri}/"): storage.read(entry.uri) for entry in storage.list_objects(uri)}


def target(output: str, form: str = "tar", samples: int = 2) -> Target:
    assert form in {"tar", "parquet"}
    return Target(output=output, format="tar" if form == "tar" else "parquet", samples_per_shard=samples)


@pytest.mark.parametrize("form", FORMATS)
def test_packing_twice_gives_the_same_bytes(images: list[Image], tmp_path: Path, form: str) -> None:
    for output in ("one", "two"):
        pack(images, target(str(tmp_path / output), form), ignore)
    assert contents(str(tmp_path / "one")) == contents(str(tmp_path / "two"))


@pytest.mark.parametrize("form", FORMATS)
def test_evaluation_reads_what_was_packed(images: list[Image], store: str, form: str) -> None:
    pack(images, target(store, form), ignore)
    dataset = find_dataset([store])
    found = [sample for shard in dataset.shards for sample in read.samples(shard)]
    assert [(s.key, s.image, s.label, s.error) for s in found] == [(i.key, i.read(), i.label, None) for i in images]
    assert dataset.labels == (0, 4)


def test_keys_and_bytes_survive_in_a_plain_tar_reader(images: list[Image]) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_bytes(images))) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # pyright: ignore
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}
    expected = {f"{image.key}.{image.suffix}": image.read() for image in images}
    expected |= {f"{image.key}.cls": str(image.label).encode() for image in images if image.label is not None}
    assert members == expected


def test_a_parquet_shard_has_three_columns_and_page_checksums(images: list[Image]) -> None:
    data = parquet_bytes(images)
    table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    assert table.to_pylist() == [{"key": i.key, "image": i.read(), "label": i.label} for i in images]
    position = data.index(images[0].read())
    damaged = data[:position] + b"B" + data[position + 1 :]
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(io.BytesIO(damaged), page_checksum_verification=True)


@pytest.mark.parametrize(("samples", "rows"), [(1, [1] * 6), (4, [4, 2]), (6, [6]), (7, [6])])
def test_each_shard_but_the_last_has_the_number_of_samples_asked(
    images: list[Image], tmp_path: Path, samples: int, rows: list[int]
) -> None:
    told: list[PackedShard] = []
    manifest = pack(images, target(str(tmp_path / "out"), samples=samples), told.append)
    assert [shard.rows for shard in manifest.shards] == rows
    assert [shard.name for shard in manifest.shards] == [f"{n:05d}.tar" for n in range(len(rows))]
    assert tuple(told) == manifest.shards


def test_names_grow_beyond_five_digits() -> None:
    assert target("out", samples=1).names(100_001)[-2:] == ["99999.tar", "100000.tar"]


def test_the_manifest_says_what_lies_there(images: list[Image], store: str) -> None:
    manifest = pack(images, target(store), ignore)
    assert read_manifest(store) == manifest
    assert (manifest.samples, manifest.labels.min, manifest.labels.max, manifest.labels.count) == (6, 0, 4, 4)
    for shard in manifest.shards:
        data = storage.read(f"{store}/{shard.name}")
        assert (shard.size, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("gone", [["manifest.json", "00001"], ["manifest.json"], ["00000"], []])
def test_an_interrupted_packing_is_completed_with_the_same_bytes(
    images: list[Image], tmp_path: Path, form: str, gone: list[str]
) -> None:
    output = tmp_path / "out"
    pack(images, target(str(output), form), ignore)
    before = contents(str(output))
    for name in gone:
        (output / name if "." in name else output / f"{name}.{form}").unlink()
    pack(images, target(str(output), form), ignore)
    assert contents(str(output)) == before


def test_the_manifest_is_written_last(images: list[Image], tmp_path: Path) -> None:
    def interrupt(shard: PackedShard) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(images, target(str(tmp_path / "out")), interrupt)
    assert list(contents(str(tmp_path / "out"))) == ["00000.tar"]


CHANGES = ["format", "samples per shard", "fewer", "more", "bytes", "label", "key"]
MIXES = [(change, gone) for change in CHANGES for gone in (None, "manifest.json", "00000.tar")]
MIXES.remove(("more", "manifest.json"))  # cannot be told from a packing of more images that was interrupted


@pytest.mark.parametrize(("change", "gone"), MIXES)
def test_another_packing_is_refused_and_nothing_is_written(
    images: list[Image], tmp_path: Path, change: str, gone: str | None
) -> None:
    output = str(tmp_path / "out")
    pack(images, target(output), ignore)
    if gone:
        Path(output, gone).unlink()
    before = contents(output)
    others = {
        "fewer": images[:-1],
        "more": make(tmp_path / "more", [*NAMES, "zz.jpg"]),
        "bytes": [make(tmp_path / "bytes")[3], *images[1:]],
        "label": [Image(name="a.jpg", label=3, path=images[0].path, size=8), *images[1:]],
        "key": [Image(name="A.jpg", label=0, path=images[0].path, size=8), *images[1:]],
    }
    form, samples = "parquet" if change == "format" else "tar", 3 if change == "samples per shard" else 2
    with pytest.raises((ValueError, FileExistsError), match=r"another packing|none of the|other content"):
        pack(others.get(change, images), target(output, form, samples), ignore)
    assert contents(output) == before


def test_other_objects_in_the_folder_do_not_matter(images: list[Image], store: str) -> None:
    storage.put(f"{store}/README.md", b"about")
    assert pack(images, target(store), ignore).samples == 6
