"""Covers pipelines.data.formats on Parquet files of any writer; damaged files fail by name."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import formats, read
from pipelines.records import Sample
from tests.support.shard_files import failure, parquet_of, read_all, shard_at, write_both


def test_a_parquet_without_labels_and_with_other_columns_is_read(tmp_path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_of(more=[1], image=[b"x"], key=["a"]))
    assert read_all(tmp_path / "a.parquet") == [Sample(key="a", image=b"x", label=None)]


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


def test_an_image_column_of_another_type_is_said(tmp_path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_of(key=["a"], image=[{"bytes": b"x"}]))
    assert read_all(tmp_path / "a.parquet")[0].error == "no image: the image column holds dict"


def test_an_image_over_the_limit_is_a_row_with_a_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(formats, "MAX_IMAGE_BYTES", 9)
    (tmp_path / "a.parquet").write_bytes(parquet_of(key=["a", "b"], image=[b"1" * 10, b"1" * 9], label=[4, 5]))
    assert read_all(tmp_path / "a.parquet") == [
        Sample(key="a", image=None, label=4, error="too large: 10 bytes is over 9"),
        Sample(key="b", image=b"1" * 9, label=5),
    ]


def test_samples_of_parquet_have_no_place_in_a_tar(tmp_path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_of(key=["a", "b"], image=[b"1", None]))
    assert [sample.offset for sample in read.samples(shard_at(tmp_path / "a.parquet"))] == [None, None]


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


def test_a_parquet_without_rows_is_a_failed_shard(tmp_path) -> None:
    data = parquet_of(key=pa.array([], pa.string()), image=pa.array([], pa.binary()))
    assert failure(tmp_path / "a.parquet", data) == "holds no samples"


def test_formats_under_each_others_suffix_are_failed_shards(tmp_path) -> None:
    tar, parquet = write_both(tmp_path, [Sample(key="a", image=b"x", label=1)])
    assert "not a tar" in failure(tmp_path / "b.tar", parquet.read_bytes())
    assert "ArrowInvalid" in failure(tmp_path / "b.parquet", tar.read_bytes())


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
