"""Covers damaged tars: cut, flipped, with holes or hostile headers, they fail by name and never read as shorter."""

import tarfile
import tracemalloc

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipelines.data import read
from pipelines.data.tar_headers import StrictHeader
from tests.support.shard_files import BLOCK, FOLDER, FORMS, failure, read_all, shard_at, tar_of

SMALL = [("a.jpg", b"1" * 600), ("a.cls", b"1"), ("n" * 120 + ".jpg", b"2"), ("b.json", b"{}"), ("c.jpg", b"3" * 512)]


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


def header_blocks(data: bytes | bytearray) -> list[int]:
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
    assert (
        failure(tmp_path / "a.tar", data)
        == "damaged at byte 1024: an end of archive, and more after it (tar -A joins archives)"
    )


def test_two_archives_in_one_file_are_a_failed_shard_not_half_of_it(tmp_path) -> None:
    one, other = tar_of([("a.jpg", b"1")]), tar_of([("b.jpg", b"1")])
    assert "more after it" in failure(tmp_path / "a.tar", one + other)
    assert "more after it" in failure(tmp_path / "a.tar", one + b"trailing text")


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"no tar at all\n" * 500, bytes(range(256)) * 40, b"PAR1" * 600],
    ids=["empty", "newline", "text", "binary", "parquet-like"],
)
def test_what_is_no_tar_is_a_failed_shard(tmp_path, data: bytes) -> None:
    assert "not a tar" in failure(tmp_path / "a.tar", data)


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


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=110),
    size=st.integers(0, 8**12),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE]),
    form=st.sampled_from([*FORMS.values()]),
    change=st.none() | st.tuples(st.integers(0, BLOCK - 1), st.integers(0, 255)),
)
def test_a_header_is_parsed_as_tarfile_parses_it(name: str, size: int, kind: bytes, form: int, change) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    try:
        header = bytearray(info.tobuf(form, errors="surrogateescape")[-BLOCK:])
    except ValueError:  # too large for the format
        assume(False)
    if change:
        header[change[0]] = change[1]

    def parsed(by: type[tarfile.TarInfo]) -> tuple:
        try:
            member = by.frombuf(bytes(header), "utf-8", "backslashreplace")
        except tarfile.HeaderError as error:
            return (str(error),)
        return member.name, member.size, member.type, member.linkname

    assert parsed(StrictHeader) == parsed(tarfile.TarInfo)
