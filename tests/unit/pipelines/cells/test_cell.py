"""Covers pipelines.cells.cell and plan: path by identity, bytes by content, all rows or no cell."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipelines import storage
from pipelines.cells.cell import cell_identity, cell_uri, encode_cell, load_cells, publish_cell, read_cell, verify_cell
from pipelines.cells.column import SCHEMA_VERSION
from pipelines.cells.plan import plan_cells
from pipelines.records import Dataset, Settings, Shard
from tests.support.cell_rows import CARD, COLUMN, cell_rows

SHARDS = tuple(Shard(name=f"{i:05d}", uri=f"/d/{i:05d}.tar", size=100 + i, etag=f"e{i}") for i in range(3))
DATASET = Dataset(name="d", source="/d", shards=SHARDS)


def test_a_cell_is_read_back_as_it_was_published_null_lists_included(store: str) -> None:
    publish_cell(store, DATASET, COLUMN, SHARDS[0], cell_rows(7, errors=(0, 3, 6)))
    shard, rows = next(load_cells(store, DATASET, COLUMN))
    assert shard == SHARDS[0]
    assert rows.to_pylist() == cell_rows(7, errors=(0, 3, 6)).to_pylist()
    assert rows["classes"].type == pa.list_(pa.int16(), 10)


def test_a_cell_says_what_it_is_of(tmp_path) -> None:
    publish_cell(str(tmp_path), DATASET, COLUMN, replace(SHARDS[2], limit=3), cell_rows(3))
    about = cell_identity(cell_uri(str(tmp_path), DATASET, COLUMN, replace(SHARDS[2], limit=3)))
    assert about["shard"] == {"name": "00002", "size": 102, "etag": "e2", "limit": 3}
    assert (about["model"], about["rows"], about["schema"]) == (CARD.name, 3, SCHEMA_VERSION)
    assert about["weights"] == COLUMN.weights


def test_a_cell_says_nothing_of_where_its_shard_lies() -> None:
    """The same shard under two spellings of its path has one cell, and two jobs that fill it must agree."""
    moved = replace(SHARDS[0], uri="s3://elsewhere/00000.tar")
    assert encode_cell(COLUMN, SHARDS[0], cell_rows(3)) == encode_cell(COLUMN, moved, cell_rows(3))


@pytest.mark.parametrize("key", ["sha256:" + "0" * 64, "menagerie.seal", "menagerie.seal@" + "0" * 64, "@"])
def test_a_key_may_look_like_a_seal(key, tmp_path) -> None:
    rows = cell_rows(2).set_column(1, "key", pa.array([key, key[::-1]]))
    (tmp_path / "cell.parquet").write_bytes(encode_cell(COLUMN, SHARDS[0], rows))
    assert read_cell(str(tmp_path / "cell.parquet"), COLUMN.classes_kept)["key"].to_pylist() == [key, key[::-1]]


def test_the_same_rows_are_the_same_bytes_however_they_are_chunked() -> None:
    whole = cell_rows(9, errors=(4,))
    pieces = pa.concat_tables([whole.slice(0, 2), whole.slice(2, 3), whole.slice(5)])
    assert encode_cell(COLUMN, SHARDS[0], whole) == encode_cell(COLUMN, SHARDS[0], pieces)


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": Settings(precision="bf16")},
        {"settings": Settings(batch_size=16)},
        {"settings": Settings(channels_last=True)},
        {"settings": Settings(fold=True)},
        {"settings": Settings(compile=True)},
        {"decoder": "fast"},
        {"subset": (1, 5, 7)},
        {"file": replace(COLUMN.file, sha256="0" * 64)},
        {"file": replace(COLUMN.file, label_order="devkit")},
        {"card": replace(CARD, preprocessing=replace(CARD.preprocessing, crop_pct=0.9))},
        {"card": replace(CARD, preprocessing=replace(CARD.preprocessing, mean=(0.5, 0.5, 0.5)))},
        {"card": replace(CARD, num_classes=7)},
        {"max_classes_kept": 5},
        {"ensemble": (COLUMN,)},
    ],
)
def test_other_settings_are_other_cells(changed) -> None:
    other = replace(COLUMN, **changed)
    assert cell_uri("s", DATASET, other, SHARDS[0]) != cell_uri("s", DATASET, COLUMN, SHARDS[0])


def test_an_ensemble_is_named_by_its_members_and_each_of_them_is_part_of_its_identity() -> None:
    bf16, fast = replace(COLUMN, settings=Settings(precision="bf16")), replace(COLUMN, decoder="fast")
    assert replace(COLUMN, ensemble=(bf16,)).model == "efficientnet_lite0+efficientnet_lite0"
    assert len({replace(COLUMN, ensemble=others).name for others in ((bf16,), (fast,), (bf16, fast), ())}) == 4


def test_another_version_of_the_columns_is_another_cell(monkeypatch) -> None:
    here = cell_uri("s", DATASET, COLUMN, SHARDS[0])
    monkeypatch.setattr("pipelines.cells.column.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert cell_uri("s", DATASET, COLUMN, SHARDS[0]) != here


@pytest.mark.parametrize("changed", [{"size": 1}, {"etag": "x"}, {"name": "y"}, {"limit": 3}])
def test_a_changed_shard_is_another_cell(changed) -> None:
    other = replace(SHARDS[0], **changed)
    assert cell_uri("s", DATASET, COLUMN, other) != cell_uri("s", DATASET, COLUMN, SHARDS[0])


def test_a_path_has_the_form_that_the_design_promises() -> None:
    path = cell_uri("s3://b/out", DATASET, COLUMN, SHARDS[1])
    model, shard = path.removeprefix("s3://b/out/cells/d/").split("/")
    assert model.startswith("efficientnet_lite0-57934424-")
    assert shard == f"00001-{SHARDS[1].digest}.parquet"


def test_a_plan_subtracts_what_is_committed(store: str) -> None:
    other = replace(COLUMN, settings=Settings(precision="bf16"))
    publish_cell(store, DATASET, COLUMN, SHARDS[1], cell_rows(2))
    plan = plan_cells(store, DATASET, [COLUMN, other])
    assert plan.missing == ((0, 2), (0, 1, 2))
    assert (plan.needed, plan.pending) == (6, 5)


def test_a_cell_with_one_flipped_bit_is_refused_by_name(tmp_path) -> None:
    content = encode_cell(COLUMN, SHARDS[0], cell_rows(40))
    path = tmp_path / "cell.parquet"
    for position in np.random.default_rng(0).integers(0, len(content) * 8, 200):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cell\.parquet is damaged"):
            read_cell(str(path), COLUMN.classes_kept)


def test_a_cell_that_is_cut_is_refused_by_name(store: str) -> None:
    where = f"{store}/cell.parquet"
    storage.replace(where, encode_cell(COLUMN, SHARDS[0], cell_rows(40))[:-100])
    with pytest.raises(ValueError, match=r"cell\.parquet is damaged"):
        read_cell(where, COLUMN.classes_kept)


OF_FIVE = replace(SHARDS[0], rows=5)
BACKWARDS = cell_rows(5).take([4, 3, 2, 1, 0])
WRONG = {
    "of another shard": (encode_cell(COLUMN, SHARDS[1], cell_rows(5)), "it is of shard 00001, not 00000"),
    "of other settings": (
        encode_cell(replace(COLUMN, settings=Settings(batch_size=1)), OF_FIVE, cell_rows(5)),
        "plan .*, expected ",
    ),
    "too short": (encode_cell(COLUMN, OF_FIVE, cell_rows(4)), "rows 4, expected 5"),
    "out of order": (encode_cell(COLUMN, OF_FIVE, BACKWARDS), "its rows are not in order"),
    "with a gap": (encode_cell(COLUMN, OF_FIVE, cell_rows(6).take([0, 1, 2, 3, 5])), "its rows are not in order"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_cell_that_is_whole_but_wrong_is_refused_by_name(tmp_path, what) -> None:
    content, reason = WRONG[what]
    where = cell_uri(str(tmp_path), DATASET, COLUMN, OF_FIVE)
    storage.put(where, content)
    with pytest.raises(ValueError, match=rf"{where} is not what it should be: .*{reason}"):
        verify_cell(str(tmp_path), DATASET, COLUMN, OF_FIVE)


@pytest.mark.parametrize(
    "shard", [OF_FIVE, replace(OF_FIVE, rows=9, limit=5), SHARDS[0]], ids=["manifest", "limit", "itself"]
)
def test_a_cell_is_as_long_as_its_shard_or_the_limit_or_as_it_says_itself(tmp_path, shard) -> None:
    publish_cell(str(tmp_path), DATASET, COLUMN, shard, cell_rows(5, errors=(1,)))
    assert verify_cell(str(tmp_path), DATASET, COLUMN, shard).to_pylist() == cell_rows(5, errors=(1,)).to_pylist()
