"""Shards for tests, written by what everybody has: tarfile and pyarrow; and how reading them ends.

It uses none of the project's readers, so that these are compared with something else.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.data import read
from pipelines.records import Sample, Shard

Members = list[tuple[str, bytes]]
WriteTar = Callable[[Path, Members], bytes]
BLOCK = 512
FORMS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}
FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda key: not key.rpartition("/")[2].startswith(".") and not key.startswith("./") and key.rpartition("/")[2]
)


SAMPLES = st.lists(
    st.builds(Sample, key=KEYS, image=st.binary(max_size=700), label=st.none() | st.integers(0, 2**31 - 1)),
    min_size=1,
    max_size=8,
    unique_by=lambda sample: sample.key,
)


def shard_at(path: Path | str, **fields) -> Shard:
    there = storage.exists(str(path))
    listed = storage.stat(str(path)) if there else storage.StoredObject(str(path), 0, "e")
    return Shard(name=Path(path).stem, uri=listed.uri, size=listed.size, etag=listed.etag, **fields)


def read_all(path: Path | str, **fields) -> list[Sample]:
    """The samples, but for their places in a tar, of which no test but their own wants to know."""
    return [replace(sample, offset=None) for sample in read.samples(shard_at(path, **fields))]


def as_ours(path: Path) -> dict[str, str]:
    """The field of a shard whose manifest names its digest: we wrote it, and keys go up to the last dot."""
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def failure(path: Path | str, data: bytes | bytearray | None = None, **fields) -> str:
    """Why the shard fails; it does, and says nowhere that it is whole."""
    if data is not None:
        Path(path).write_bytes(data)
    rows = [chunk.to_pylist()[0] for chunk in read.chunks(3, shard_at(path, **fields), 2)]
    assert not any(row["last"] for row in rows)
    assert [row["failure"] is None for row in rows] == [True] * (len(rows) - 1) + [False]
    assert rows[-1]["keys"] == rows[-1]["offsets"] == rows[-1]["images"] == []
    assert rows[-1]["transient"] is False
    return rows[-1]["failure"]


def tar_of(members: Members, form: int = tarfile.PAX_FORMAT, encoding: str = "utf-8") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding=encoding) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_tar(path: Path, members: Members) -> bytes:
    """Write a tar as WebDataset shards are, and return its bytes."""
    content = tar_of(members)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def put_shards(folder: str, shards: Iterable[Iterable[Members]]) -> None:
    """Write a tar of the samples of each shard below the URI `folder`: 00000.tar, 00001.tar and so on."""
    for number, samples in enumerate(shards):
        storage.put(f"{folder}/{number:05d}.tar", tar_of(list(chain.from_iterable(samples))))


def labelled(key: str, image: bytes, label: int, suffix: str = "jpg") -> Members:
    """The members of one labelled sample."""
    return [(f"{key}.{suffix}", image), (f"{key}.cls", b"%d" % label)]


def parquet_of(**columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, write_page_checksum=True)
    return buffer.getvalue()


def members_of(samples: list[Sample]) -> Members:
    members = []
    for sample in samples:
        members.append((f"{sample.key}.jpg", sample.image))
        if sample.label is not None:
            members.append((f"{sample.key}.cls", str(sample.label).encode()))
    return members


def write_both(folder: Path, samples: list[Sample]) -> tuple[Path, Path]:
    (folder / "a.tar").write_bytes(tar_of(members_of(samples)))
    columns = {
        "key": pa.array([sample.key for sample in samples], pa.string()),
        "image": pa.array([sample.image for sample in samples], pa.binary()),
        "label": pa.array([sample.label for sample in samples], pa.int32()),
    }
    (folder / "a.parquet").write_bytes(parquet_of(**columns))
    return folder / "a.tar", folder / "a.parquet"
