"""Covers links in tars: they count as the earlier member to which they lead, in plain and compressed shards."""

import gzip
import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.data import containers, read
from tests.support.shard_files import read_all, shard_at

PACKED = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def tar_with_links(*members: tuple[str, bytes | tuple[bytes, str]]) -> bytes:
    """A tar of files and of links, given as their kind and target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


HARD, SOFT = tarfile.LNKTYPE, tarfile.SYMTYPE


@pytest.mark.parametrize("suffix", PACKED)
def test_links_are_the_pictures_and_labels_to_which_they_lead(tmp_path: Path, suffix: str) -> None:
    data = tar_with_links(
        ("blobs/one", b"first" * 200),
        ("a/0.jpg", b"second" * 100),
        ("a/0.cls", b"7"),
        ("b/1.jpg", (HARD, "a/0.jpg")),
        ("b/1.cls", (HARD, "a/0.cls")),
        ("b/2.jpg", (SOFT, "../a/0.jpg")),
        ("b/3.jpg", (SOFT, "2.jpg")),
        ("b/4.jpg", (HARD, "blobs/one")),
        ("b/5.jpg", (HARD, "./a/0.jpg")),
    )
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(PACKED[suffix](data))
    first, second = b"first" * 200, b"second" * 100
    assert [(sample.key, sample.image, sample.label, sample.error) for sample in read_all(path)] == [
        ("a/0", second, 7, None),
        ("b/1", second, 7, None),
        ("b/2", second, None, None),
        ("b/3", second, None, None),
        ("b/4", first, None, None),
        ("b/5", second, None, None),
    ]
    for sample in read.samples(shard_at(path)):
        assert data[sample.offset :].startswith(sample.image)


@pytest.mark.parametrize("target", ["later.jpg", "/etc/hostname", "../../out.jpg", "loop.jpg", "a"])
@pytest.mark.parametrize("kind", [HARD, SOFT], ids=["hard", "soft"])
def test_a_link_that_leads_to_no_earlier_member_is_a_row_with_the_reason(tmp_path, kind: bytes, target: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_with_links(("a/0.jpg", b"x"), ("loop.jpg", (kind, target)), ("later.jpg", b"y")))
    _, row, _ = read_all(path)
    assert row.key == "loop"
    assert row.image is None
    assert row.error == (
        f"link: leads to {target!r}, which is no earlier member; tar --dereference packs the pictures themselves"
    )


def test_links_back_and_forth_in_a_compressed_shard_cost_a_few_readings_and_then_a_reason(tmp_path) -> None:
    far = [(f"{i}.jpg", (HARD, f"src/{'ab'[i % 2]}.jpg")) for i in range(20)]
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(tar_with_links(("src/a.jpg", b"a"), ("src/b.jpg", b"b"), *far)))
    rows = read_all(path)[2:]
    read_again = [row for row in rows if row.image]
    assert [row.image for row in read_again] == [b"ab"[i % 2 : i % 2 + 1] for i in range(len(read_again))]
    assert len(read_again) == 2 * containers._MAX_INFLATIONS
    assert {row.error for row in rows if row.error} == {
        "link: leads too far back in a compressed shard; pack it without compression"
    }


def test_a_link_to_a_picture_that_is_too_large_is_too_large(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.data.tar_members.MAX_IMAGE_BYTES", 9)
    path = tmp_path / "x.tar"
    path.write_bytes(tar_with_links(("a.jpg", b"1" * 10), ("b.jpg", (HARD, "a.jpg"))))
    assert [row.error for row in read_all(path)] == ["too large: 10 bytes is over 9"] * 2
