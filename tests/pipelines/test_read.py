"""Reading shards: the same samples from tar and Parquet, no row lost, and no damaged shard taken for a whole one."""

import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import formats, read, storage
from pipelines.records import CHUNK, Dataset, Sample, Shard

Members = list[tuple[str, bytes]]
WriteTar = Callable[[Path, Members], bytes]
BLOCK = 512


def shard_at(path: Path | str, **fields) -> Shard:
    there = storage.exists(str(path))
    listed = storage.stat(str(path)) if there else storage.StoredObject(str(path), 0, "e")
    return Shard(name=Path(path).stem, uri=listed.uri, size=listed.size, etag=listed.etag, **fields)


def read_all(path: Path | str, **fields) -> list[Sample]:
    return list(read.samples(shard_at(path, **fields)))


def failure(path: Path | str, data: bytes | None = None, **fields) -> str:
    """Why the shard fails; it does, and says nowhere that it is whole."""
    if data is not None:
        Path(path).write_bytes(data)
    rows = [chunk.to_pylist()[0] for chunk in read.chunks(3, shard_at(path, **fields), 2)]
    assert not any(row["last"] for row in rows)
    assert [row["failure"] is None for row in rows] == [True] * (len(rows) - 1) + [False]
    assert rows[-1]["keys"] == rows[-1]["images"] == []
    return rows[-1]["failure"]


def tar_of(members: Members, form: int = tarfile.PAX_FORMAT, encoding: str = "utf-8") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding=encoding) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


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


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda key: not key.rpartition("/")[2].startswith(".") and not key.startswith("./") and key.rpartition("/")[2]
)
SAMPLES = st.lists(
    st.builds(Sample, key=KEYS, image=st.binary(max_size=700), label=st.none() | st.integers(-(2**31) + 1, 2**31 - 1)),
    min_size=1,
    max_size=8,
    unique_by=lambda sample: sample.key,
)
FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@FOLDER
@given(samples=SAMPLES)
def test_tar_and_parquet_give_back_what_was_packed(tmp_path, samples: list[Sample]) -> None:
    for path in write_both(tmp_path, samples):
        assert read_all(path) == samples


@FOLDER
@given(count=st.integers(1, 30), batch_size=st.integers(1, 12))
def test_chunks_are_consecutive_full_but_the_last_and_only_the_last_says_so(tmp_path, count, batch_size) -> None:
    samples = [Sample(key=f"k{i}", image=b"%d" % i, label=i if i % 3 else None) for i in range(count)]
    for path in write_both(tmp_path, samples):
        chunks = list(read.chunks(7, shard_at(path), batch_size))
        assert all(chunk.schema == CHUNK and chunk.num_rows == 1 for chunk in chunks)
        rows = [chunk.to_pylist()[0] for chunk in chunks]
        assert [row["start"] for row in rows] == list(range(0, count, batch_size))
        assert [row["last"] for row in rows] == [False] * (len(rows) - 1) + [True]
        assert {row["shard"] for row in rows} == {7}
        assert {row["failure"] for row in rows} == {None}
        assert [len(row["keys"]) for row in rows[:-1]] == [batch_size] * (len(rows) - 1)
        for column, field in {"keys": "key", "labels": "label", "images": "image", "errors": "error"}.items():
            assert [value for row in rows for value in row[column]] == [getattr(sample, field) for sample in samples]


def test_a_table_of_shards_is_read_as_each_shard_alone(tmp_path) -> None:
    tar, parquet = write_both(tmp_path, [Sample(key=str(i), image=b"x", label=i) for i in range(5)])
    shards = [shard_at(tar, limit=3), shard_at(parquet, rows=5), shard_at(tmp_path / "none.tar")]
    together = list(read.read_shards(read.shard_rows(shards, [4, 0, 9]), 2))
    alone = [
        chunk for position, shard in zip([4, 0, 9], shards, strict=True) for chunk in read.chunks(position, shard, 2)
    ]
    assert together == alone
    assert [chunk["shard"][0].as_py() for chunk in together] == [4, 4, 0, 0, 0, 9]


def test_shards_are_read_alike_from_every_store(store: str) -> None:
    samples = [Sample(key=f"s/{i}.v1", image=bytes([i]) * 3000, label=i) for i in range(40)]
    storage.put(f"{store}/a.tar", tar_of(members_of(samples)))
    storage.put(f"{store}/cut.tar", tar_of(members_of(samples))[: 4096 * 5])
    assert read_all(f"{store}/a.tar") == samples
    assert "ReadError" in failure(f"{store}/cut.tar")
    assert "none.tar" in failure(f"{store}/none.tar")
    assert "none.parquet" in failure(f"{store}/none.parquet")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_keys_of_any_form_come_back_whole(tmp_path, form: int) -> None:
    keys = [
        "a.v1",
        "a.v2",
        "a b ",
        "ü/日本/😀",
        "d/e/f",
        "n" * 99,
        "n" * 101,
        "d/" * 60 + "x.y",
        "n" * 300,
        "d/" * 200 + "z",
    ]
    keys += ["-", "A", "a", "x.jpg", "x.cls", "..x/y", "a..b", "line\nbreak"]
    (tmp_path / "a.tar").write_bytes(tar_of([(f"{key}.png", b"1") for key in keys], form))
    assert [sample.key for sample in read_all(tmp_path / "a.tar")] == keys


def test_a_leading_dot_slash_is_no_part_of_a_key(tmp_path, write_tar: WriteTar) -> None:
    write_tar(tmp_path / "a.tar", [("./x/a.jpg", b"1"), ("x/a.cls", b"1"), ("./x/a.jpg", b"2")])
    first, second = read_all(tmp_path / "a.tar")
    assert (first.key, first.label, first.error) == ("x/a", 1, None)
    assert second.error == "duplicate key: 'x/a' is row 0 already"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_a_name_that_is_no_utf_8_is_a_key_all_the_same(tmp_path, form: int) -> None:
    names = ["caf\udce9.jpg", "caf\udce8.jpg"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    rows = next(read.chunks(0, shard_at(tmp_path / "a.tar"), 4)).to_pylist()[0]
    assert rows["keys"] == [r"caf\xe9", r"caf\xe8"]


def test_suffixes_are_read_in_any_case(tmp_path, write_tar: WriteTar) -> None:
    suffixes = ["jpg", "JPG", "jpeg", "JPEG", "Png", "webp", "WebP"]
    members = [m for i, suffix in enumerate(suffixes) for m in [(f"{i}.{suffix}", b"x"), (f"{i}.CLS", b"%d" % i)]]
    write_tar(tmp_path / "a.tar", members)
    assert read_all(tmp_path / "a.tar") == [Sample(key=str(i), image=b"x", label=i) for i in range(7)]


def test_other_members_are_passed_over(tmp_path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            tar.addfile(info, io.BytesIO(content))

        add("d.jpg", kind=tarfile.DIRTYPE)
        add("d.jpg/a.json", b"{}" * 600)
        add("d.jpg/a.jpg", b"1")
        add("d.jpg/a.json", b"{}")
        add("d.jpg/a.cls", b"7")
        add("d.jpg/a.txt", b"caption")
        add("README", b"no suffix")
        add("d.jpg/._a.jpg", b"AppleDouble")
        add(".a.cls", b"9")
        add(".jpg", b"nothing but a suffix")
        add("d.jpg/.cls", b"3")
        add("soft.jpg", kind=tarfile.SYMTYPE, link="d.jpg/a.jpg")
        add("hard.jpg", kind=tarfile.LNKTYPE, link="d.jpg/a.jpg")
        add("pipe.jpg", kind=tarfile.FIFOTYPE)
        add("b.jpg.gz", b"not an image suffix")
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    assert read_all(tmp_path / "a.tar") == [Sample(key="d.jpg/a", image=b"1", label=7)]


def test_a_label_without_image_is_a_row_and_an_image_without_label_is_unlabelled(tmp_path, write_tar: WriteTar) -> None:
    write_tar(tmp_path / "a.tar", [("a.cls", b"1"), ("b.jpg", b"x"), ("c.cls", b"2"), ("c.jpg", b"y")])
    assert read_all(tmp_path / "a.tar") == [
        Sample(key="a", image=None, label=1, error="no image: a label without a member jpg|jpeg|png|webp"),
        Sample(key="b", image=b"x", label=None),
        Sample(key="c", image=b"y", label=2),
    ]


GOOD_LABELS = {b"0": 0, b"7\n": 7, b" 12\r\n": 12, b"-1": -1, b"007": 7, b"2147483647": 2**31 - 1}
BAD_LABELS = [
    b"",
    b"cat",
    b"3.0",
    b"1e3",
    b"0x1f",
    b"\xff\xfe",
    b"1 2",
    b"2147483648",
    b"-9999999999",
    b"9" * 5000,
    b"1_0",
    b"+1",
]


def test_labels_are_integers_and_what_is_none_is_a_row_with_a_reason(tmp_path, write_tar: WriteTar) -> None:
    texts = [*GOOD_LABELS, *BAD_LABELS]
    write_tar(tmp_path / "a.tar", [m for i, text in enumerate(texts) for m in [(f"{i}.jpg", b"x"), (f"{i}.cls", text)]])
    samples = read_all(tmp_path / "a.tar")
    assert [sample.label for sample in samples] == [*GOOD_LABELS.values()] + [None] * len(BAD_LABELS)
    assert [sample.error is None for sample in samples] == [True] * len(GOOD_LABELS) + [False] * len(BAD_LABELS)
    for sample in samples[len(GOOD_LABELS) :]:
        assert sample.error.startswith("bad label: ")
        assert sample.image is None
        assert len(sample.error) < 250
    assert samples[len(GOOD_LABELS) + 1].error == "bad label: 'cat' is not an integer"


def test_a_key_that_comes_again_is_an_error_row_wherever_it_comes(tmp_path, write_tar: WriteTar) -> None:
    members = [("a.jpg", b"1"), ("a.png", b"2"), ("a.cls", b"5"), ("b.jpg", b"3"), ("a.webp", b"6"), ("b.jpg", b"4")]
    write_tar(tmp_path / "a.tar", members)
    samples = read_all(tmp_path / "a.tar")
    assert [(sample.key, sample.image) for sample in samples] == [
        ("a", b"1"), ("a", None), ("b", b"3"), ("a", None), ("b", None)
    ]  # fmt: skip
    assert [sample.error for sample in samples if sample.error] == [
        "duplicate key: 'a' is row 0 already",
        "duplicate key: 'a' is row 0 already",
        "duplicate key: 'b' is row 2 already",
    ]


SMALL = [("a.jpg", b"1" * 600), ("a.cls", b"1"), ("n" * 120 + ".jpg", b"2"), ("b.json", b"{}"), ("c.jpg", b"3" * 512)]
FORMS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def small(form: str) -> tuple[bytes, int]:
    """An archive, and where its end marker begins."""
    members = [(name.replace("n" * 120, "n" * 60 + "/" + "n" * 59), data) for name, data in SMALL]
    data = tar_of(members if form == "ustar" else SMALL, FORMS[form])
    return data, -(-len(data.rstrip(b"\0")) // BLOCK) * BLOCK


@pytest.mark.parametrize("form", FORMS)
def test_a_tar_cut_at_any_block_is_a_failed_shard(tmp_path, form: str) -> None:
    data, end = small(form)
    for cut in range(0, end + BLOCK, BLOCK):
        assert failure(tmp_path / "a.tar", data[:cut]), cut
    for cut in range(end + BLOCK, len(data) + BLOCK, BLOCK * 3):  # behind the end marker nothing is missing
        (tmp_path / "a.tar").write_bytes(data[:cut])
        assert [sample.key[0] for sample in read_all(tmp_path / "a.tar")] == ["a", "n", "c"]


@FOLDER
@given(data=st.data())
def test_a_tar_cut_at_any_byte_is_a_failed_shard(tmp_path, data) -> None:
    whole, end = small("pax")
    assert failure(tmp_path / "a.tar", whole[: data.draw(st.integers(0, end + BLOCK - 1))])


def test_a_tar_cut_between_two_members_says_that_it_is_cut_and_where(tmp_path) -> None:
    data = tar_of([("a.jpg", b"1"), ("b.jpg", b"2")])
    assert failure(tmp_path / "a.tar", data[:1024]) == (
        "ReadError: not a tar, or cut or damaged at byte 1024: empty header"
    )


def header_blocks(data: bytes) -> list[int]:
    """Offsets of the blocks that carry a checksum: by the letters `ustar` that each header has at byte 257."""
    return [offset for offset in range(0, len(data), BLOCK) if data[offset + 257 : offset + 262] == b"ustar"]


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_in_a_header_fails_the_shard_or_changes_nothing(tmp_path, form: str) -> None:
    data, _ = small(form)
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    intact = read_all(path)
    assert len(header_blocks(data)) >= len(SMALL)
    for header in header_blocks(data):
        for byte in range(BLOCK):
            damaged = bytearray(data)
            damaged[header + byte] ^= 1 << (byte + header // BLOCK) % 8
            path.write_bytes(damaged)
            try:
                assert read_all(path) == intact
                assert 148 <= byte < 156, "a flip outside the checksum field went unseen"
            except read.ShardError as error:
                assert "damaged" in str(error)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_hole_of_zeros_is_no_end_of_archive(tmp_path, blocks: int) -> None:
    data = bytearray(tar_of([(f"{i}.jpg", b"%d" % i) for i in range(4)]))
    data[1024 : 1024 + blocks * BLOCK] = bytes(blocks * BLOCK)
    assert failure(tmp_path / "a.tar", data) == "damaged at byte 1024: an end of archive, and more after it"


def test_two_archives_in_one_file_are_a_failed_shard_not_half_of_it(tmp_path) -> None:
    one, other = tar_of([("a.jpg", b"1")]), tar_of([("b.jpg", b"1")])
    assert "more after it" in failure(tmp_path / "a.tar", one + other)
    assert "more after it" in failure(tmp_path / "a.tar", one + b"trailing text")


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"no tar at all\n" * 500, bytes(range(256)) * 40, b"\x1f\x8b\x08" + bytes(2000), b"PAR1" * 600],
    ids=["empty", "newline", "text", "binary", "gzip", "parquet-like"],
)
def test_what_is_no_tar_is_a_failed_shard(tmp_path, data: bytes) -> None:
    assert "not a tar" in failure(tmp_path / "a.tar", data)


def test_formats_under_each_others_suffix_are_failed_shards(tmp_path) -> None:
    tar, parquet = write_both(tmp_path, [Sample(key="a", image=b"x", label=1)])
    assert "not a tar" in failure(tmp_path / "b.tar", parquet.read_bytes())
    assert "ArrowInvalid" in failure(tmp_path / "b.parquet", tar.read_bytes())


@pytest.mark.parametrize("members", [[], [("a.json", b"{}"), ("b.txt", b"b")]], ids=["empty", "others"])
def test_a_tar_without_samples_is_a_failed_shard(tmp_path, members: Members) -> None:
    assert failure(tmp_path / "a.tar", tar_of(members)) == "holds no samples"


def test_a_parquet_without_rows_is_a_failed_shard(tmp_path) -> None:
    data = parquet_of(key=pa.array([], pa.string()), image=pa.array([], pa.binary()))
    assert failure(tmp_path / "a.parquet", data) == "holds no samples"


def claiming(size: int, name: str = "a.jpg") -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [8 << 30, 1 << 40, 1 << 62, 1 << 80, -1, -512, -(1 << 70)])
@pytest.mark.parametrize("name", ["a.jpg", "a.json"])
def test_a_header_that_claims_any_size_fails_soon_and_takes_no_memory(tmp_path, size: int, name: str) -> None:
    tracemalloc.start()
    try:
        reason = failure(tmp_path / "a.tar", tar_of([("0.jpg", b"0")])[:1024] + claiming(size, name))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert "ReadError" in reason


def test_a_member_over_the_limit_is_a_row_with_a_reason(tmp_path, write_tar: WriteTar, monkeypatch) -> None:
    monkeypatch.setattr(formats, "MAX_IMAGE_BYTES", 9)
    write_tar(tmp_path / "a.tar", [("a.jpg", b"1" * 10), ("a.cls", b"4"), ("b.jpg", b"1" * 9), ("c.json", b"1" * 99)])
    first, second = read_all(tmp_path / "a.tar")
    assert first == Sample(key="a", image=None, label=4, error="too large: 10 bytes is over 9")
    assert second == Sample(key="b", image=b"1" * 9, label=None)


HOSTILE = [
    b"12 size=abc\n",
    b"13 size=-999\n",
    b"16 size=9999999\n",
    b"25 GNU.sparse.map=1,a,b,c\n",
    b"22 GNU.sparse.size=abc\n",
    b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n",
    b"99999999999999999999 path=1\n",
    b"17 hdrcharset=\xff\xff\n",
]


@pytest.mark.parametrize("record", HOSTILE)
def test_a_hostile_extended_header_fails_the_shard_and_nothing_else(tmp_path, record: bytes) -> None:
    info = tarfile.TarInfo("extended")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    header = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(BLOCK, b"\0")
    assert failure(tmp_path / "a.tar", header + tar_of([("a.jpg", b"1"), ("b.jpg", b"2")]))


def with_checksum(block: bytes) -> bytes:
    total = sum(block[:148]) + sum(block[156:]) + 8 * 32
    return block[:148] + b"%06o\0 " % total + block[156:]


@settings(deadline=2000, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(sorted(FORMS)),
    header=st.integers(0, 5),
    changes=st.lists(
        st.tuples(st.integers(0, 511), st.sampled_from([0, 255, 128, *b"07SxLgK"])), min_size=1, max_size=3
    ),
)
def test_any_header_with_a_right_checksum_ends_in_rows_or_in_a_failure(tmp_path, form, header, changes) -> None:
    data = bytearray(small(form)[0])
    start = header_blocks(data)[header % len(header_blocks(data))]
    for byte, value in changes:
        data[start + byte] = value
    data[start : start + BLOCK] = with_checksum(bytes(data[start : start + BLOCK]))
    (tmp_path / "a.tar").write_bytes(data)
    last = list(read.chunks(0, shard_at(tmp_path / "a.tar"), 4))[-1].to_pylist()[0]
    assert last["last"] is (last["failure"] is None)


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_a_shard_is_held_against_its_manifest(tmp_path, suffix: str) -> None:
    samples = [Sample(key=str(i), image=b"x" * 99, label=i) for i in range(5)]
    path = {path.suffix[1:]: path for path in write_both(tmp_path, samples)}[suffix]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_all(path, rows=5, sha256=digest) == samples
    assert failure(path, rows=6) == "holds 5 samples, its manifest says 6"
    assert failure(path, rows=4) == "holds 5 samples, its manifest says 4"
    assert failure(path, rows=5, sha256="0" * 64) == (
        f"SHA-256 {digest[:12]}… differs from its manifest's 000000000000…"
    )


def test_one_flipped_bit_of_an_image_is_seen_by_the_manifests_digest(tmp_path) -> None:
    for path in write_both(tmp_path, [Sample(key="a", image=b"\x55" * 3000, label=1)]):
        data = path.read_bytes()
        at = data.index(b"\x55" * 3000) + 1500
        flipped = data[:at] + b"\x54" + data[at + 1 :]
        assert "SHA-256" in failure(path, flipped, sha256=hashlib.sha256(data).hexdigest())


def test_bytes_behind_the_end_of_a_tar_belong_to_its_digest(tmp_path) -> None:
    data = tar_of([("a.jpg", b"1")])
    longer = data + bytes(3 << 20)
    assert "SHA-256" in failure(tmp_path / "a.tar", longer, sha256=hashlib.sha256(data).hexdigest())
    assert len(read_all(tmp_path / "a.tar", sha256=hashlib.sha256(longer).hexdigest())) == 1


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"key": ["a"]}, "lacks column image; it has key"),
        ({"image": [b"x"], "cls": [1]}, "lacks column key; it has image, cls"),
        ({"id": [1]}, "lacks column image and key; it has id"),
    ],
)
def test_a_parquet_that_lacks_columns_is_a_failed_shard(tmp_path, columns: dict, reason: str) -> None:
    assert failure(tmp_path / "a.parquet", parquet_of(**columns)) == reason


def test_a_null_in_parquet_is_an_error_row_that_keeps_what_is_known(tmp_path) -> None:
    table = {"key": ["a", None, None], "image": [None, b"y", b"z"], "label": [1, 2, 3]}
    (tmp_path / "a.parquet").write_bytes(parquet_of(**table))
    assert read_all(tmp_path / "a.parquet") == [
        Sample(key="a", image=None, label=1, error="no image: the image column holds null"),
        Sample(key="", image=None, label=2, error="no key: the key column holds null"),
        Sample(key="", image=None, label=3, error="duplicate key: '' is row 1 already"),
    ]


LABEL_COLUMNS = {
    "int64": (pa.array([3, 1 << 40, -(1 << 40), None], pa.int64()), [3, None, None, None], "no 32-bit integer"),
    "uint8": (pa.array([3, 255, 0, None], pa.uint8()), [3, 255, 0, None], ""),
    "float": (pa.array([3.0, float("nan"), 1e300, None]), [None] * 4, "is not an integer"),
    "string": (pa.array(["3", "cat", "", None]), [None] * 4, "is not an integer"),
    "bool": (pa.array([True, False, True, None]), [None] * 4, "is not an integer"),
    "null": (pa.nulls(4), [None] * 4, ""),
}


@pytest.mark.parametrize("kind", LABEL_COLUMNS)
def test_parquet_labels_are_integers_of_any_width_and_others_are_error_rows(tmp_path, kind: str) -> None:
    column, labels, reason = LABEL_COLUMNS[kind]
    (tmp_path / "a.parquet").write_bytes(parquet_of(key=list("abcd"), image=[b"x"] * 4, label=column))
    row = next(read.chunks(0, shard_at(tmp_path / "a.parquet"), 9)).to_pylist()[0]
    assert row["labels"] == labels
    expected = [value is not None and label is None for value, label in zip(column.to_pylist(), labels, strict=True)]
    assert [error is not None for error in row["errors"]] == expected
    assert all(reason in error for error in row["errors"] if error)


def test_a_parquet_without_labels_and_with_other_columns_is_read(tmp_path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_of(more=[1], image=[b"x"], key=["a"]))
    assert read_all(tmp_path / "a.parquet") == [Sample(key="a", image=b"x", label=None)]


def test_an_image_column_of_another_type_is_said(tmp_path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_of(key=["a"], image=[{"bytes": b"x"}]))
    assert read_all(tmp_path / "a.parquet")[0].error == "no image: the image column holds dict"


def test_parquet_text_that_is_no_utf_8_is_a_failed_shard(tmp_path) -> None:
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    keys = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"\xff\xfe")])
    assert "UnicodeDecodeError" in failure(tmp_path / "a.parquet", parquet_of(key=keys, image=[b"x", b"y"]))


def test_a_truncated_parquet_is_a_failed_shard(tmp_path) -> None:
    _, path = write_both(tmp_path, [Sample(key=str(i), image=b"x" * 50, label=i) for i in range(9)])
    data = path.read_bytes()
    for cut in [*range(0, len(data), 37), len(data) - 1]:
        assert failure(path, data[:cut])


def test_a_flipped_bit_in_parquet_pages_fails_the_shard(tmp_path) -> None:
    path = tmp_path / "a.parquet"
    table, plain = pa.table({"key": ["a"], "image": [b"\x55" * 3000]}), {"use_dictionary": False, "compression": "none"}
    pq.write_table(table, path, write_statistics=False, write_page_checksum=True, **plain)
    data = path.read_bytes()
    at = data.index(b"\x55" * 3000) + 10
    assert "CRC" in failure(path, data[:at] + b"\x54" + data[at + 1 :])


def dataset_of(folder: Path, sizes: list[int], manifest: bool) -> Dataset:
    shards = []
    for position, size in enumerate(sizes):
        path = folder / f"{position}.tar"
        path.write_bytes(tar_of([(f"{position}-{i}.jpg", b"x") for i in range(size)]))
        shards.append(shard_at(path, rows=size if manifest else None))
    return Dataset(name="d", source=str(folder), shards=tuple(shards))


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("most", range(1, 12))
def test_a_limit_keeps_the_first_samples_with_and_without_a_manifest(tmp_path, manifest: bool, most: int) -> None:
    dataset = dataset_of(tmp_path, [3, 1, 5], manifest)
    cut = read.limited(dataset, most)
    everything = [sample for shard in dataset.shards for sample in read.samples(shard)]
    assert [sample for shard in cut.shards for sample in read.samples(shard)] == everything[:most]
    assert all(list(read.samples(shard)) for shard in cut.shards)
    assert cut.shards[:-1] == dataset.shards[: len(cut.shards) - 1]
    whole = most in {3, 4} or most >= 9
    assert (cut.shards[-1] == dataset.shards[len(cut.shards) - 1]) is whole
    assert (cut == dataset) is (most >= 9)


@pytest.mark.parametrize("most", [0, -1, -10])
def test_a_limit_that_is_not_positive_is_refused(tmp_path, most: int) -> None:
    with pytest.raises(ValueError, match=f"--limit {most}: expected a positive number"):
        read.limited(dataset_of(tmp_path, [1], False), most)


def test_a_limit_does_not_hide_a_shard_that_cannot_be_read(tmp_path) -> None:
    dataset = dataset_of(tmp_path, [4, 4, 4], False)
    path = Path(dataset.shards[0].uri)
    path.write_bytes(path.read_bytes()[:2048])
    assert read.limited(dataset, 5).shards == (*dataset.shards[:2], replace(dataset.shards[2], limit=1))


def test_a_limited_shard_is_held_against_its_digest_though_not_its_rows(tmp_path) -> None:
    (shard,) = dataset_of(tmp_path, [9], True).shards
    shard = replace(shard, sha256=hashlib.sha256(Path(shard.uri).read_bytes()).hexdigest(), rows=9, limit=4)
    rows = [chunk.to_pylist()[0] for chunk in read.chunks(0, shard, 3)]
    assert [(row["start"], row["last"], row["failure"]) for row in rows] == [(0, False, None), (3, True, None)]
    *_, failed = read.chunks(0, replace(shard, sha256="0" * 64), 3)
    assert "SHA-256" in failed.to_pylist()[0]["failure"]


def test_a_shard_that_changes_while_it_is_read_fails(tmp_path, write_tar: WriteTar) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", b"1")])
    listed = shard_at(tmp_path / "a.tar")
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", b"2")])
    with pytest.raises(read.ShardError, match="changed since it was listed"):
        list(read.samples(listed))


@pytest.mark.parametrize(
    "names", [("a.jpg", "b.jpg", "a.cls", "b.cls"), ("a.jpg", "a.seg.png", "a.cls")], ids=["parted", "interleaved"]
)
def test_a_sample_whose_members_stand_apart_fails_the_shard_and_is_not_counted_twice(
    tmp_path, write_tar, names
) -> None:
    write_tar(tmp_path / "a.tar", [(name, b"1") for name in names])
    with pytest.raises(read.ShardError, match="members of sample 'a' do not stand together"):
        list(read.samples(shard_at(tmp_path / "a.tar")))


def test_memory_does_not_grow_with_the_members_of_a_tar(tmp_path) -> None:
    def peak(count: int) -> int:
        block = tarfile.TarInfo("same.json").tobuf()  # passed over, so that no sample's key is kept
        (tmp_path / "a.tar").write_bytes(tar_of([("a.jpg", b"x")])[:1024] + block * count + bytes(1024))
        tracemalloc.start()
        try:
            assert len(read_all(tmp_path / "a.tar")) == 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(8_000) < peak(4_000) + 500_000  # a header that is kept takes about 1 kB


def test_twenty_thousand_samples_are_read_in_memory_of_keys_alone(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([(f"{i:05d}.jpg", b"x" * 100) for i in range(20_000)]))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read.samples(shard_at(tmp_path / "a.tar"))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 12e6
    finally:
        tracemalloc.stop()
