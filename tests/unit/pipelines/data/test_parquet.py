"""Covers the readers of Parquet files of any writer; damaged files fail by name."""

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import parquet_samples, read
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
    "float": (pa.array([3.0, 2.5, float("inf"), None]), [3, None, None, None], "is not an integer"),
    "string": (pa.array(["3", "cat", "2.5", None]), [3, None, None, None], "is not an integer"),
    "synset": (pa.array(["n01440764", "n15075141", "n00000000", "7.0"]), [0, 999, None, 7], "none of ImageNet's"),
    "dictionary": (pa.array(["3", "n01443537", "3", None]).dictionary_encode(), [3, 1, 3, None], ""),
    "decimal": (pa.array([Decimal("3.00"), Decimal("2.50"), None, Decimal(0)]), [3, None, None, 0], "not an integer"),
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


@pytest.mark.parametrize("column", ["int64", "float", "dictionary", "string"])
def test_minus_one_null_and_nan_are_no_label(tmp_path, column: str) -> None:
    kinds = {
        "int64": [-1, None],
        "float": [-1.0, float("nan")],
        "dictionary": pa.array(["-1", "NaN"]).dictionary_encode(),
        "string": ["", "null"],
    }
    (tmp_path / "a.parquet").write_bytes(parquet_of(key=["a", "b"], image=[b"x", b"y"], label=kinds[column]))
    assert [(sample.label, sample.error) for sample in read_all(tmp_path / "a.parquet")] == [(None, None)] * 2


def test_an_image_over_the_limit_is_a_row_with_a_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parquet_samples, "MAX_IMAGE_BYTES", 9)
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
        ({"key": ["a"]}, "no column of encoded pictures; it has key (string); --image-column names one"),
        (
            {"id": [1], "photo": [b"x"]},
            "no column of encoded pictures; it has id (int64), photo (binary); --image-column names one",
        ),
        ({"jpg": [b"x"], "png": [b"x"]}, "columns jpg and png could be meant; --image-column says which"),
        (
            {"jpg": [b"x"], "cls": [1], "target": [2]},
            "columns cls and target could be meant; --label-column says which",
        ),
    ],
)
def test_columns_that_cannot_be_told_are_a_failed_shard_that_names_the_option(tmp_path, columns, reason: str) -> None:
    assert failure(tmp_path / "a.parquet", parquet_of(**columns)) == reason


def test_a_parquet_without_rows_is_one_empty_chunk(tmp_path) -> None:
    data = parquet_of(key=pa.array([], pa.string()), image=pa.array([], pa.binary()))
    (tmp_path / "a.parquet").write_bytes(data)
    (chunk,) = (chunk.to_pylist()[0] for chunk in read.chunks(3, shard_at(tmp_path / "a.parquet"), 2))
    assert (chunk["keys"], chunk["last"], chunk["failure"]) == ([], True, None)


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
