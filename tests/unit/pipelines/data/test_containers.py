"""Covers compressed tars: told by their first bytes, verified to their end, and bounded in what they inflate to."""

import bz2
import gzip
import hashlib
import io
import lzma
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data import containers, read
from pipelines.data.containers import TarStream
from pipelines.records import Sample
from tests.support.shard_files import FOLDER, SAMPLES, failure, members_of, read_all, shard_at, tar_of


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


COMPRESS = {"gzip": gzip.compress, "zstd": zstd}
SOME = [Sample(key=f"s/{i}", image=bytes([i]) * 5000, label=i) for i in range(9)]


@pytest.mark.parametrize("codec", COMPRESS)
@FOLDER
@given(samples=SAMPLES, cut=st.integers(0, 20_000))
def test_a_compressed_tar_reads_as_the_plain_one_whatever_its_name_and_parts(tmp_path, codec, samples, cut) -> None:
    data = tar_of(members_of(samples))
    (tmp_path / "plain.tar").write_bytes(data)
    whole, parted = COMPRESS[codec](data), COMPRESS[codec](data[:cut]) + COMPRESS[codec](data[cut:])
    expected = list(read.samples(shard_at(tmp_path / "plain.tar")))
    for name, content in (("a.tar", whole), ("a.tar.gz", parted), ("a.tar.zst", whole)):
        (tmp_path / name).write_bytes(content)
        assert list(read.samples(shard_at(tmp_path / name))) == expected


@pytest.mark.parametrize("codec", COMPRESS)
def test_a_cut_or_changed_byte_anywhere_fails_a_compressed_shard(tmp_path, codec: str) -> None:
    content = COMPRESS[codec](tar_of(members_of(SOME)))
    for cut in range(1, len(content), 7):
        assert failure(tmp_path / "a.tar", content[:cut])
    assert failure(tmp_path / "a.tar", content + b"more")


def test_a_flipped_bit_fails_a_gzip_by_its_checksum(tmp_path) -> None:
    content = bytearray(gzip.compress(tar_of(members_of(SOME)), compresslevel=0))
    content[2000] ^= 1
    assert "CRC check failed" in failure(tmp_path / "a.tar.gz", content)


def test_the_manifest_names_the_digest_of_the_compressed_bytes(tmp_path) -> None:
    content = gzip.compress(tar_of(members_of(SOME)))
    (tmp_path / "a.tar.gz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert read_all(tmp_path / "a.tar.gz", sha256=digest, rows=9) == SOME
    assert read_all(tmp_path / "a.tar.gz", sha256=digest, limit=3) == SOME[:3]
    assert "differs from its manifest" in failure(tmp_path / "a.tar.gz", sha256="0" * 64)


@pytest.mark.parametrize("codec", COMPRESS)
def test_a_shard_that_inflates_too_far_is_refused_in_bounded_memory(tmp_path, codec: str) -> None:
    zeros = tar_of([("a.json", b""), ("a.jpg", b"x")])[:-1024] + bytes(300 << 20)
    content = COMPRESS[codec](zeros)
    del zeros
    tracemalloc.start()
    try:
        assert "to more than 100 times as many" in failure(tmp_path / "a.tar.gz", content)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def zip_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("compress", "name"), [(bz2.compress, "bzip2"), (lzma.compress, "xz"), (zip_of, "a zip archive")]
)
def test_other_containers_are_refused_by_name(tmp_path, compress, name: str) -> None:
    assert failure(tmp_path / "a.tar", compress(tar_of(members_of(SOME)))) == (
        f"is {name}, not a tar; plain, gzip and zstd tars are read"
    )


@pytest.mark.parametrize("name", ["BZh9.jpg", "PK\x03\x04.jpg", "\x1f\x8b.jpg"])
def test_the_name_of_the_first_member_is_not_taken_for_a_container(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([(name, b"x")]))
    assert [sample.image for sample in read_all(tmp_path / "a.tar")] == [b"x"]


@given(data=st.binary(max_size=300), steps=st.lists(st.tuples(st.booleans(), st.integers(0, 90)), max_size=12))
def test_a_stream_read_forwards_gives_the_bytes_of_a_file(data: bytes, steps) -> None:
    stream, at = TarStream(io.BytesIO(data)), 0
    for jump, size in steps:
        if jump:
            at = min(len(data), stream.tell() + size)
            assert stream.seek(stream.tell() + size) == at
        elif at and size == 0:
            stream.seek(at - 1)
            assert stream.read(1) == data[at - 1 : at]
        else:
            assert stream.read(size) == data[at : at + size]
            at = min(len(data), at + size)
        assert stream.tell() == at


def test_a_stream_goes_no_further_back() -> None:
    stream = TarStream(io.BytesIO(b"abcdef"))
    stream.read(5)
    with pytest.raises(io.UnsupportedOperation):
        stream.seek(2)


def test_limits_of_inflation_do_not_refuse_photographs(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(containers, "_FREE_INFLATION", 0)
    samples = [replace(sample, image=hashlib.sha512(sample.key.encode()).digest() * 3) for sample in SOME]
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar_of(members_of(samples))))
    assert read_all(tmp_path / "a.tar.gz") == samples


def test_zeros_behind_the_end_of_a_gzip_are_padding_as_for_gzip_itself(tmp_path) -> None:
    content = gzip.compress(tar_of(members_of(SOME)))
    (tmp_path / "a.tar.gz").write_bytes(content + bytes(10_000))
    assert read_all(tmp_path / "a.tar.gz") == SOME
