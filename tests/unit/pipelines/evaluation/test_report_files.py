"""Covers report_files and reliability: equal results give equal bytes in any order, and no error is left out."""

import csv
import io
import json
from dataclasses import asdict, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from pipelines.evaluation.metrics import MISSING_LABEL, Summary, tally
from pipelines.evaluation.reliability import reliability_png
from pipelines.evaluation.report_files import (
    error_lines,
    errors_table,
    parquet_bytes,
    per_class_parquet,
    result_table,
    results_csv,
    results_json,
)
from pipelines.evaluation.result import ModelResult
from pipelines.records import PLAIN, Shard, cell_schema

TIMM_HEADER = "model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation"
CLASSES = 6


def row(label, classes, error=None):
    """A row that gives `classes` the probabilities 0.5, 0.2 and 0.1, the label 0.5 where it is the first."""
    if error:
        return {"key": f"{error}.jpg", "label": label, "error": error, "offset": 1536}
    label_prob = None if label is None else 0.5 * (classes[0] == label)
    return {
        "key": "fine.jpg",
        "label": label,
        "classes": classes,
        "probs": [0.5, 0.2, 0.1],
        "label_prob": label_prob,
        "sq_prob": 0.3,
    }


def cell(*rows):
    return pa.Table.from_pylist([r | {"index": i} for i, r in enumerate(rows)], schema=cell_schema(3))


RIGHT, SECOND, WRONG = row(1, [1, 2, 3]), row(2, [1, 2, 3]), row(0, [1, 2, 3])
BROKEN, EMPTY = row(4, [], "broken image: OSError: cut"), row(None, [], "empty file")
UNLABELLED = row(None, [1, 2, 3])


def result(model, *rows):
    return ModelResult(
        model=model,
        dataset="photographs, $ample",
        param_count=4_652_008,
        img_size=224,
        crop_pct=0.875,
        interpolation="bicubic",
        weights="57934424" * 8,
        settings=PLAIN,
        decoder="exact",
        shards=1,
        committed=1,
        plan_digest="ab12cd34",
        tally=tally(cell(*rows), CLASSES),
    )


BEST = result("best", RIGHT, RIGHT, SECOND, BROKEN, UNLABELLED)
MIDDLING = result("middling", RIGHT, SECOND, WRONG)
RESULTS = [
    result("zero", WRONG),
    MIDDLING,
    result("unlabelled", UNLABELLED),
    BEST,
    result("all_broken", BROKEN),
]


@pytest.mark.parametrize("render", [results_json, results_csv])
def test_any_order_of_results_gives_the_same_bytes_best_first(render):
    assert render(RESULTS) == render(RESULTS[::-1])
    text = render(RESULTS).decode()
    places = [text.index(name) for name in ("best", "middling", "all_broken", "zero", "unlabelled")]
    assert places == sorted(places)


@pytest.mark.parametrize("render", [reliability_png, per_class_parquet])
def test_a_result_gives_the_same_bytes_twice(render):
    assert render(MIDDLING) == render(result("middling", WRONG, SECOND, RIGHT))


def test_json_holds_every_reported_number():
    first = json.loads(results_json(RESULTS))["results"][0]
    assert list(first)[:2] == ["model", "dataset"]
    assert list(first)[2 : 2 + len(fields(Summary))] == [field.name for field in fields(Summary)]
    assert {name: first[name] for name in asdict(BEST.summary)} == asdict(BEST.summary)
    assert (first["model"], first["n"], first["top1"], first["top5"], first["plan"]) == ("best", 5, 40, 60, "ab12cd34")


def test_an_incomplete_set_is_marked_in_every_form():
    partial = replace(MIDDLING, shards=3, committed=2)
    assert json.loads(results_json([partial]))["results"][0]["complete"] is False
    row = next(csv.DictReader(io.StringIO(results_csv([partial]).decode())))
    assert (row["shards"], row["committed"]) == ("3", "2")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(result_table([partial]))
    text = console.export_text()
    assert "3*" in text
    assert "incomplete: 2 of 3 shards" in text
    assert reliability_png(partial) != reliability_png(MIDDLING)


def test_csv_begins_with_timms_columns_in_timms_formats():
    header, best = results_csv(RESULTS).decode().split("\n")[:2]
    assert header.startswith(TIMM_HEADER + ",dataset,")
    assert best.startswith("best,40.000,60.000,60.000,40.000,4.65,224,0.875,bicubic,")


def test_csv_is_empty_where_there_is_no_number_and_its_errors_add_up_to_100():
    rows = {entry["model"]: entry for entry in csv.DictReader(io.StringIO(results_csv(RESULTS).decode()))}
    assert rows["unlabelled"]["top1"] == rows["unlabelled"]["top1_err"] == rows["unlabelled"]["nll"] == ""
    assert (rows["middling"]["top1"], rows["middling"]["top1_err"]) == ("33.333", "66.667")
    assert rows["middling"]["dataset"] == "photographs, $ample"


def test_no_results_give_a_header_and_an_empty_list():
    assert results_csv([]).decode().startswith(TIMM_HEADER)
    assert json.loads(results_json([])) == {"results": []}


def test_per_class_parquet_has_a_row_for_each_class_and_no_accuracy_without_rows():
    names = [f"class {i}" for i in range(CLASSES)]
    table = pq.read_table(pa.BufferReader(per_class_parquet(BEST, names)), page_checksum_verification=True).to_pydict()
    assert table["class"] == list(range(CLASSES))
    assert table["name"] == names
    assert table["n"] == [0, 2, 1, 0, 1, 0]
    assert table["errors"] == [0, 0, 0, 0, 1, 0]
    assert table["accuracy"] == [None, 100.0, 0.0, None, 0.0, None]


def test_class_names_must_be_as_many_as_the_classes():
    with pytest.raises(ValueError, match="2 class names for the 6 classes of best"):
        per_class_parquet(BEST, ["cat", "dog"])


def test_the_errors_table_lists_every_row_that_cannot_be_judged():
    shards = [Shard(name=name, uri=f"{name}.tar", size=1, etag="e") for name in ("first", "second", "fine")]
    tables = [cell(RIGHT, BROKEN, UNLABELLED), cell(EMPTY), cell(WRONG)]
    listed = errors_table(zip(shards, tables, strict=True), CLASSES)
    assert [tuple(entry.values()) for entry in listed.to_pylist()] == [
        ("first", 1, 1536, BROKEN["key"], 4, "broken image", "broken image: OSError: cut"),
        ("first", 2, None, "fine.jpg", None, MISSING_LABEL, None),
        ("second", 0, 1536, EMPTY["key"], None, "empty file", "empty file"),
    ]
    stored = pq.read_table(pa.BufferReader(parquet_bytes(listed)))
    assert stored.equals(listed)
    assert errors_table([], CLASSES).schema == listed.schema


@pytest.mark.parametrize("shown", RESULTS, ids=lambda shown: shown.model)
def test_the_reliability_diagram_is_a_readable_picture(shown):
    with Image.open(io.BytesIO(reliability_png(shown))) as picture:
        assert picture.format == "PNG"
        assert picture.size == (720, 840)
        assert "Software" not in picture.info
        assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_table_shows_every_column_in_80_characters(width):
    console = Console(width=width, file=io.StringIO())
    console.print(result_table([*RESULTS, result("a_model_with_quite_a_long_name", RIGHT)]))
    text = console.file.getvalue()
    assert all(heading in text for heading in ("model", "top-1", "95 %", "top-5", "NLL", "ECE", "params", "fp32 exact"))
    assert "11.8-76.9" in text
    assert "4.7M" in text
    assert "…" not in text


def test_error_lines_put_the_most_frequent_reason_first():
    assert error_lines(result("m", EMPTY, BROKEN, BROKEN)) == ["      2  broken image", "      1  empty file"]


def test_what_is_said_only_where_there_is_something_leaves_other_results_as_they_were() -> None:
    told = replace(RESULTS[0], passed_over={"seg.png": 3}, weights_steps=("took model",))
    plain, more = (json.loads(results_json([result]))["results"][0] for result in (RESULTS[0], told))
    assert more == plain | {"passed_over": {"seg.png": 3}, "weights_steps": ["took model"]}
    assert results_csv([told]) == results_csv([RESULTS[0]])
