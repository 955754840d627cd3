"""Covers the readers of tars: key, image, offset and label of a sample, and which members are skipped."""

import hashlib
import io
import tarfile
import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data import read, tar_members
from pipelines.records import Sample
from tests.support.shard_files import (
    BLOCK,
    FOLDER,
    FORMS,
    SAMPLES,
    Members,
    WriteTar,
    as_ours,
    failure,
    members_of,
    read_all,
    shard_at,
    tar_of,
)


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
    assert [sample.key for sample in read_all(tmp_path / "a.tar", **as_ours(tmp_path / "a.tar"))] == keys


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
    suffixes = ["jpg", "JPG", "jpeg", "JPEG", "Png", "webp", "WebP", "jpe", "JFIF", "gif", "bmp", "TIF", "avif"]
    members = [m for i, suffix in enumerate(suffixes) for m in [(f"{i}.{suffix}", b"x"), (f"{i}.CLS", b"%d" % i)]]
    write_tar(tmp_path / "a.tar", members)
    assert read_all(tmp_path / "a.tar") == [Sample(key=str(i), image=b"x", label=i) for i in range(13)]


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
        add("d.jpg/classes", kind=tarfile.SYMTYPE, link="..")
        add("pipe.jpg", kind=tarfile.FIFOTYPE)
        add("b.jpg.gz", b"not an image suffix")
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    passed = tar_members.PassedOver(Counter())
    (sample,) = read.samples(shard_at(tmp_path / "a.tar"), passed)
    assert replace(sample, offset=None) == Sample(key="d.jpg/a", image=b"1", label=7)
    assert passed.kinds == {
        "json": 2, "txt": 1, "no suffix": 1, "hidden names": 4, "links to folders or other files": 1,
        "special files": 1, "gz": 1,
    }  # fmt: skip


def test_a_label_without_image_is_a_row_and_an_image_without_label_is_unlabelled(tmp_path, write_tar: WriteTar) -> None:
    write_tar(tmp_path / "a.tar", [("a.cls", b"1"), ("b.jpg", b"x"), ("c.cls", b"2"), ("c.jpg", b"y")])
    assert read_all(tmp_path / "a.tar") == [
        Sample(key="a", image=None, label=1, error="no image: a label without a member jpg|jpeg|jpe|jfif|png|webp"),
        Sample(key="b", image=b"x", label=None),
        Sample(key="c", image=b"y", label=2),
    ]


@FOLDER
@given(samples=SAMPLES, form=st.sampled_from(["pax", "gnu"]))
def test_an_image_begins_where_its_sample_says(tmp_path, samples: list[Sample], form: str) -> None:
    data = tar_of(members_of(samples), FORMS[form])
    (tmp_path / "a.tar").write_bytes(data)
    for sample in read.samples(shard_at(tmp_path / "a.tar", **as_ours(tmp_path / "a.tar"))):
        assert sample.offset is not None
        assert sample.image is not None
        assert sample.offset % BLOCK == 0
        assert data[sample.offset :].startswith(sample.image)


def test_where_there_is_no_image_the_label_says_where_its_sample_begins(tmp_path, write_tar: WriteTar) -> None:
    members = [("a.cls", b"1"), ("b.jpg", b"image"), ("b.cls", b"2"), ("c.cls", b"3"), ("c.jpg", b"image")]
    data = write_tar(tmp_path / "a.tar", members)
    alone, *others = read.samples(shard_at(tmp_path / "a.tar"))
    assert data[alone.offset :].startswith(b"1\0")
    assert all(data[sample.offset :].startswith(b"image\0") for sample in others)


def test_bad_and_doubled_samples_keep_their_place(tmp_path, write_tar: WriteTar, monkeypatch) -> None:
    monkeypatch.setattr(tar_members, "MAX_IMAGE_BYTES", 9)
    members = [("a.jpg", b"large" * 2), ("b.jpg", b"image"), ("b.cls", b"cat"), ("b.jpg", b"again")]
    data = write_tar(tmp_path / "a.tar", members)
    samples = list(read.samples(shard_at(tmp_path / "a.tar")))
    assert all(sample.error for sample in samples)
    assert [data[sample.offset :][:5] for sample in samples] == [b"large", b"image", b"again"]


GOOD_LABELS = {
    b"3.0": 3,
    b"n01440764": 0,
    b" n15075141\n": 999,
    b"0": 0,
    b"7\n": 7,
    b" 12\r\n": 12,
    b"-1": None,
    b"007": 7,
    b"2147483647": 2**31 - 1,
}


BAD_LABELS = [
    b"",
    b"cat",
    b"3.5",
    b"n00000000",
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


def test_a_member_over_the_limit_is_a_row_with_a_reason(tmp_path, write_tar: WriteTar, monkeypatch) -> None:
    monkeypatch.setattr(tar_members, "MAX_IMAGE_BYTES", 9)
    write_tar(tmp_path / "a.tar", [("a.jpg", b"1" * 10), ("a.cls", b"4"), ("b.jpg", b"1" * 9), ("c.json", b"1" * 99)])
    first, second = read_all(tmp_path / "a.tar")
    assert first == Sample(key="a", image=None, label=4, error="too large: 10 bytes is over 9")
    assert second == Sample(key="b", image=b"1" * 9, label=None)


@pytest.mark.parametrize("members", [[], [("a.json", b"{}"), ("b.txt", b"b")]], ids=["empty", "others"])
def test_a_tar_without_samples_is_one_empty_chunk(tmp_path, members: Members) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    (chunk,) = (chunk.to_pylist()[0] for chunk in read.chunks(3, shard_at(tmp_path / "a.tar"), 2))
    assert (chunk["shard"], chunk["keys"], chunk["last"], chunk["failure"]) == (3, [], True, None)
    assert chunk["passed"] == ('{"json": 1, "txt": 1}' if members else None)


def test_bytes_behind_the_end_of_a_tar_belong_to_its_digest(tmp_path) -> None:
    data = tar_of([("a.jpg", b"1")])
    longer = data + bytes(3 << 20)
    assert "SHA-256" in failure(tmp_path / "a.tar", longer, sha256=hashlib.sha256(data).hexdigest())
    assert len(read_all(tmp_path / "a.tar", sha256=hashlib.sha256(longer).hexdigest())) == 1


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
