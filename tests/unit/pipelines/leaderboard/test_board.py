"""Covers board, sets and exports: rows are what the cells say, whatever else the store holds."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

import zoo
from pipelines import storage
from pipelines.cells import inventory
from pipelines.cells.cell import cell_uri, publish_cell
from pipelines.evaluation import metrics
from pipelines.leaderboard import board, exports
from pipelines.leaderboard.board import Board
from pipelines.leaderboard.sets import leaderboard_sets
from pipelines.records import Settings
from tests.support.fake_stores import column, dataset, fill, fill_judged, rows

BF16 = Settings(precision="bf16")
CARDS = "resnest50d,selecsls60,resnest14d"


def built(store: str, models: str = CARDS, speed: board.Speed = lambda _: None) -> Board:
    holdings = inventory.holdings(store)
    return board.build(holdings, leaderboard_sets(holdings, ()), zoo.select(models), speed)


@pytest.fixture
def filled(tmp_path: Path) -> str:
    store = str(tmp_path / "store")
    photos, sketches = dataset("photos", shards=3, rows=40), dataset("sketches", shards=1, rows=30)
    fill(store, photos, column("resnest50d"), 0.8, errors=[3])
    fill(store, photos, column("resnest50d", BF16), 0.9)
    fill(store, photos, column("selecsls60"), 0.85)
    fill(store, sketches, column("resnest50d"), 0.5)
    return store


def test_rows_are_models_with_their_settings_and_sets_are_columns(filled: str) -> None:
    made = built(filled)
    assert [kind.name for kind in made.sets] == ["photos", "sketches"]
    assert [(row.model, row.column.mode, sorted(row.entries)) for row in made.rows] == [
        ("resnest50d", "bf16 exact", ["photos"]),
        ("resnest50d", "fp32 exact", ["photos", "sketches"]),
        ("selecsls60", "fp32 exact", ["photos"]),
    ]
    assert [(row.model, row.column.mode) for row, _ in made.of(made.sets[0])] == [
        ("resnest50d", "bf16 exact"),
        ("selecsls60", "fp32 exact"),
        ("resnest50d", "fp32 exact"),
    ]
    assert [card.name for card in made.absent] == ["resnest14d"]


def test_scores_are_those_of_all_cells_folded(filled: str) -> None:
    made = built(filled)
    score = next(row.entries["photos"] for row in made.rows if row.model == "resnest50d" and "sketches" in row.entries)
    tallies = [metrics.tally(cell, 1000) for _, cell in score.column.load()]
    assert score.summary == metrics.summary(metrics.merge(metrics.merge(tallies[0], tallies[1]), tallies[2]))
    assert (score.summary.n, score.summary.errors, len(score.mistakes.errors)) == (120, 3, 3)


def test_models_that_are_not_asked_for_are_left_out(filled: str) -> None:
    assert {row.model for row in built(filled, "selecsls*").rows} == {"selecsls60"}


def test_a_subset_of_classes_is_a_set_of_the_same_row(filled: str) -> None:
    few = dataset("few", shards=1, rows=20)
    fill(filled, few, column("resnest50d", subset=tuple(range(20))), 0.7)
    (row,) = [row for row in built(filled).rows if "few" in row.entries]
    assert {"photos", "sketches", "few"} == set(row.entries)


def test_a_label_beside_the_classes_that_count_is_an_error(tmp_path: Path) -> None:
    fill(str(tmp_path), dataset("few", shards=1, rows=20), column("resnest50d", subset=tuple(range(15))), 1.0)
    (row,) = built(str(tmp_path)).rows
    score = row.entries["few"]
    assert score.summary.error_reasons == {"label out of range": 5} and len(score.mistakes.errors) == 5


def test_a_damaged_cell_costs_its_column_and_is_a_note(filled: str) -> None:
    photos = dataset("photos", shards=3, rows=40)
    place = storage.local_path(cell_uri(filled, photos, column("selecsls60"), photos.shards[1]))
    place.write_bytes(b"x" * 400)
    made = built(filled)
    assert "selecsls60" not in {row.model for row in made.rows}
    assert [note for note in made.notes if "00001" in note and "damaged" in note]
    assert len(made.rows) == 2


def test_an_incomplete_column_says_so_everywhere(tmp_path: Path) -> None:
    store, data = str(tmp_path), dataset("photos", shards=3, rows=10)
    inventory.note(store, data, None)
    publish_cell(store, data, column("resnest50d"), data.shards[2], rows(10, 1.0))
    made = built(store)
    (entry,) = json.loads(exports.json_bytes(made))["results"]
    assert (entry["shards"], entry["committed"], entry["complete"]) == (3, 1, False)
    (line,) = csv.DictReader(io.StringIO(exports.csv_bytes(made).decode()))
    assert (line["shards"], line["committed"]) == ("3", "1")


def test_the_csv_begins_with_timms_columns_and_has_the_models_facts(filled: str) -> None:
    made = built(filled, speed=lambda found: 12.5 if found.model == "selecsls60" else None)
    text = exports.csv_bytes(made).decode()
    assert text.startswith("model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation,")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["model"], line["dataset"], line["top1"]) for line in lines[:2]] == [
        ("resnest50d", "photos", "90.000"),
        ("selecsls60", "photos", "85.000"),
    ]
    selecsls = lines[1]
    assert (selecsls["macs"], selecsls["images_per_second"]) == ("3581005952", "12.5")
    assert selecsls["column"] == column("selecsls60").name and lines[0]["images_per_second"] == ""


def test_the_model_index_has_a_result_for_each_set_and_is_no_card(filled: str) -> None:
    content = exports.model_index(built(filled))
    document = yaml.safe_load(content)
    results = {model["Name"]: model["Results"] for model in document["Models"]}
    assert len(results["resnest50d"]) == 3 and len(results["selecsls60"]) == 1
    (measured,) = results["selecsls60"]
    assert measured["Metrics"]["Top 1 Accuracy"] == "85.000%" and measured["Verified"] is False
    from zoo.cards.reader import read_cards

    with pytest.raises(ValueError, match=r"Verified|Images"):
        read_cards(content, "model-index.yaml")


def test_the_same_store_gives_the_same_bytes(filled: str) -> None:
    for export in (exports.csv_bytes, exports.json_bytes, exports.model_index):
        assert export(built(filled)) == export(built(filled))


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[str, str]:
    return fill_judged(tmp_path)


def judged(store: str, sets: str) -> Board:
    holdings = inventory.holdings(store)
    return board.build(holdings, leaderboard_sets(holdings, [sets]), zoo.select(CARDS), lambda _: None)


def test_claims_are_judged_on_the_complete_set_that_they_are_of(tiny: tuple[str, str]) -> None:
    made = judged(*tiny)
    words = {row.model: exports.top1_verdict(row.entries["tiny"]) for row in made.rows}
    near, far = words["resnest50d"], words["selecsls60"]
    assert near and far
    assert (near.claim.value, near.word, near.is_mismatch) == (80.96, "reproduced", False)
    assert (far.word, far.is_mismatch, far.images) == ("differs", True, 280 - round(4 * far.claim.value))
    lines = {
        line["model"]: line
        for line in csv.DictReader(io.StringIO(exports.csv_bytes(made).decode()))
        if line["dataset"] == "tiny"
    }
    assert (lines["resnest50d"]["verdict"], lines["resnest50d"]["claimed_top1"]) == ("reproduced", "80.96")
    assert lines["selecsls60"]["difference_images"] == str(far.images)


def test_a_relabelled_set_reads_the_same_cells_and_has_no_likelihood(tiny: tuple[str, str]) -> None:
    made = judged(*tiny)
    assert [kind.name for kind in made.sets] == ["tiny", "tiny-real"]
    row = next(row for row in made.rows if row.model == "resnest50d")
    real = row.entries["tiny-real"].summary
    assert (real.n, real.nll, real.brier) == (300, None, None) and real.ece is not None
    (entry,) = [e for e in json.loads(exports.json_bytes(made))["results"] if e["dataset"] == "tiny-real"][:1]
    assert entry["nll"] is None and entry["top1"] == made.of(made.sets[1])[0][1].summary.top1


def test_a_relabelled_set_that_does_not_fit_costs_itself_alone(tiny: tuple[str, str], tmp_path: Path) -> None:
    store, sets = tiny
    fill(store, dataset("val", shards=1, rows=400), column("resnest14d"), 0.7, "tiny")  # keys beyond the list
    (tmp_path / "labels.json").write_text("[[1]]")
    made = judged(store, sets)
    assert [kind.name for kind in made.sets] == ["tiny"] and len(made.rows) == 3
    assert [note.partition(": ")[0] for note in made.notes] == ["no Tiny ReaL"] * len(made.notes)
    assert len(made.notes) == 2  # the keys of two columns are alike


def test_the_larger_of_two_parts_of_a_set_has_its_plain_name(tiny: tuple[str, str]) -> None:
    store, sets = tiny
    part = dataset("part", shards=2, rows=10)
    fill(store, part, column("resnest50d"), 0.9, "tiny", keys=[f"{i + 1:05d}" for i in range(10)])
    names = [kind.name for kind in judged(store, sets).sets]
    assert len(names) == len(set(names)) == 4 and {"tiny", "tiny-real"} < set(names)
    assert f"tiny-{part.digest}" in names
