"""Covers pairs, diff and diff_report: sides are paired by what they share, and compared image by image."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cells import inventory
from pipelines.cells.cell import publish_cell
from pipelines.cells.inventory import Holding
from pipelines.leaderboard import diff, diff_report
from pipelines.leaderboard.pairs import pair_columns, select_side
from pipelines.records import Settings
from tests.support.fake_stores import column, dataset, fill, rows

BF16, SMALL = Settings(precision="bf16"), Settings(batch_size=8)


def held(store: str, *columns: tuple[str, Settings, str]) -> list[Holding]:
    for model, settings, decoder in columns:
        fill(store, dataset(shards=1, rows=8), column(model, settings, decoder), 0.5)
    return inventory.holdings(store)


def paired(holdings: list[Holding], a: str, b: str) -> list[tuple[str, str, set[str]]]:
    found = pair_columns(select_side(a, holdings), select_side(b, holdings))
    return [(f"{p.a.model} {p.a.mode}", f"{p.b.model} {p.b.mode}", set(p.differs)) for p in found]


def test_a_setting_pairs_each_model_with_itself_and_with_the_column_that_differs_least(tmp_path) -> None:
    plain = Settings()
    holdings = held(
        str(tmp_path),
        ("resnest50d", plain, "fast"),
        ("resnest50d", plain, "exact"),
        ("resnest50d", BF16, "exact"),
        ("selecsls60", plain, "exact"),
        ("selecsls60", BF16, "exact"),
        ("resnest14d", plain, "exact"),
    )
    assert paired(holdings, "precision=fp32", "precision=bf16") == [
        (f"{model} fp32 exact", f"{model} bf16 exact", {"settings.precision"}) for model in ("resnest50d", "selecsls60")
    ]
    assert paired(holdings, "decoder=exact", "decoder=fast") == [
        ("resnest50d fp32 exact", "resnest50d fp32 fast", {"decoder"})
    ]


def test_two_named_columns_are_compared_whatever_their_models(tmp_path) -> None:
    holdings = held(str(tmp_path), ("resnest50d", SMALL, "exact"), ("selecsls60", SMALL, "exact"))
    a, b = (column(model, SMALL).name for model in ("resnest50d", "selecsls60"))
    ((_, _, differs),) = paired(holdings, a, b)
    assert {"model", "weights"} <= differs and not any(name.startswith("settings") for name in differs)


def test_two_stores_are_paired_by_dataset_and_shards_where_their_digests_differ(tmp_path) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    here = held(one, ("resnest50d", Settings(), "exact"))
    moved = dataset(shards=1, rows=8)
    moved = replace(moved, shards=(replace(moved.shards[0], etag="elsewhere"),))
    fill(other, moved, column("resnest50d"), 0.5)
    there = inventory.holdings(other)
    (pair,) = pair_columns(select_side(one, here), select_side(other, there))
    assert set(pair.differs) == {"dataset"}


def test_nothing_in_common_is_said_with_what_each_side_has(tmp_path) -> None:
    holdings = held(str(tmp_path), ("resnest50d", Settings(), "exact"), ("selecsls60", BF16, "exact"))
    with pytest.raises(
        ValueError, match=r"nothing to compare: precision=fp32 has resnest50d fp32 exact on photos; .* has selecsls60"
    ):
        paired(holdings, "precision=fp32", "precision=bf16")
    with pytest.raises(ValueError, match="values of precision here: bf16, fp32"):
        paired(holdings, "precision=fp16", "precision=bf16")


def changed(table: pa.Table, to: dict[int, int]) -> pa.Table:
    """`table` with other first classes, by row."""
    lists = table["classes"].to_pylist()
    for row, first in to.items():
        lists[row] = [first, *lists[row][1:]]
    return table.set_column(3, "classes", pa.array(lists, table.schema.field("classes").type))


def compared(tmp_path, one: pa.Table, other: pa.Table, environment=None) -> diff.Difference:
    data = dataset(shards=1, rows=len(one))
    inventory.note(str(tmp_path), data, None)
    for settings, table in ((Settings(), one), (BF16, other)):
        publish_cell(str(tmp_path), data, column("resnest50d", settings), data.shards[0], table)
    holdings = inventory.holdings(str(tmp_path))
    (pair,) = pair_columns(select_side("precision=fp32", holdings), select_side("precision=bf16", holdings))
    return diff.compare(pair, environment or {})


def test_flips_are_counted_by_kind_and_listed(tmp_path) -> None:
    one = rows(10, 0.6, errors=[9])
    first = [classes and classes[0] for classes in one["classes"].to_pylist()]
    other = changed(one, {0: 500, 1: 501, 6: 6, 7: 502})
    found = compared(tmp_path, one, other)
    assert (list(found.images.values()), found.points) == ([4, 2, 1, 1, 2], -10.0)
    listed = found.flips.to_pylist()
    assert [(row["index"], row["class_a"], row["class_b"], row["flip"]) for row in listed] == [
        (0, first[0], 500, diff.RIGHT_WRONG),
        (1, first[1], 501, diff.RIGHT_WRONG),
        (6, first[6], 6, diff.WRONG_RIGHT),
        (7, first[7], 502, diff.WRONG_WRONG),
    ]
    assert {row["key"] for row in listed} == {"k00000", "k00001", "k00006", "k00007"}


def test_what_is_on_both_sides_and_what_differs_in_more_than_was_named_is_not_compared(tmp_path) -> None:
    data = dataset(shards=1, rows=4)
    for precision in ("fp32", "bf16"):
        for decoder in ("exact", "fast"):
            fill(str(tmp_path), data, column("resnest50d", Settings(precision=precision), decoder), 1.0)
    held = inventory.holdings(str(tmp_path))
    found = pair_columns(select_side("precision=fp32", held), select_side("precision=bf16", held))
    assert [list(pair.differs) for pair in found] == [["settings.precision"]] * 2
    for a, b in (
        ("precision=fp32", "precision=fp32"),
        ("precision=fp32", "decoder=fast"),
        (str(tmp_path), str(tmp_path)),
    ):
        with pytest.raises(ValueError, match="is on both sides"):
            pair_columns(select_side(a, held), select_side(b, held))


def test_equal_cells_differ_in_nothing(tmp_path) -> None:
    found = compared(tmp_path, rows(10, 0.6), rows(10, 0.6))
    assert (found.p_value, found.points, len(found.flips)) == (1.0, 0, 0)
    assert 20 < found.half_interval < 25, "ten images without a flip do not prove that there is none"
    said = json.loads(diff_report.diff_json([found]))["pairs"][0]
    assert said["metrics"] == {} and said["settings"] == {"settings.precision": ["fp32", "bf16"]}


def test_rows_are_joined_by_key_whatever_their_order_and_count(tmp_path) -> None:
    one = rows(10, 0.6)
    other = one.take(pa.array([7, 3, 0, 9])).set_column(0, "index", pa.array(range(4), pa.int32()))
    found = compared(tmp_path, one, other)
    assert (list(found.images.values()), found.unpaired) == ([2, 0, 0, 0, 2], (6, 0))
    assert "resnest50d on photos: 6 images are in A alone, 0 in B alone" in diff_report.lines([found])


def test_an_error_on_one_side_counts_as_wrong_there(tmp_path) -> None:
    found = compared(tmp_path, rows(10, 1.0), rows(10, 1.0, errors=[4]))
    assert (found.images[diff.RIGHT_WRONG], found.images[diff.BOTH_RIGHT]) == (1, 9)
    (flip,) = found.flips.to_pylist()
    assert (flip["index"], flip["class_b"], flip["prob_b"]) == (4, None, None)


def test_the_test_is_mcnemars_exact_one(tmp_path) -> None:
    one = rows(40, 1.0)
    found = compared(tmp_path, one, changed(one, {i: 900 + i for i in range(10)}))
    assert found.p_value == pytest.approx(2 * 0.5**10)
    assert found.points == -25.0 and 0 < found.half_interval < 25


def test_the_files_hold_flips_and_what_differs(tmp_path) -> None:
    one = rows(10, 0.6)
    found = compared(tmp_path, one, changed(one, {0: 500}), {"torch_version": ("2.9", "2.10")})
    table = pq.read_table(io.BytesIO(diff_report.flips_parquet([found])))
    assert table.schema.equals(diff.FLIPS) and table.num_rows == 1
    said = json.loads(diff_report.diff_json([found]))["pairs"][0]
    assert said["environment"] == {"torch_version": ["2.9", "2.10"]}
    assert np.allclose(said["metrics"]["top1"], [60, 50])
    lines = diff_report.lines([found])
    assert "torch_version: 2.9 / 2.10" in lines and "settings.precision: fp32 / bf16" in lines


def test_shards_that_one_side_lacks_are_said(tmp_path) -> None:
    data = dataset(shards=3, rows=5)
    fill(str(tmp_path), data, column("resnest50d"), 1.0)
    publish_cell(str(tmp_path), data, column("resnest50d", BF16), data.shards[1], rows(5, 1.0, seed=1))
    holdings = inventory.holdings(str(tmp_path))
    (pair,) = pair_columns(select_side("precision=fp32", holdings), select_side("precision=bf16", holdings))
    found = diff.compare(pair, {})
    assert sum(found.images.values()) == 5
    assert "resnest50d on photos: compared over 1 of 3 shards" in diff_report.lines([found])


def test_columns_without_an_image_in_common_are_named(tmp_path) -> None:
    data = dataset(shards=1, rows=3)
    inventory.note(str(tmp_path), data, None)
    for settings, keys in ((Settings(), ["a", "b", "c"]), (BF16, ["d", "e", "f"])):
        publish_cell(str(tmp_path), data, column("resnest50d", settings), data.shards[0], rows(3, 1.0, keys=keys))
    holdings = inventory.holdings(str(tmp_path))
    (pair,) = pair_columns(select_side("precision=fp32", holdings), select_side("precision=bf16", holdings))
    with pytest.raises(ValueError, match="have no image in common on photos"):
        diff.compare(pair, {})
