"""Covers pipelines.cells.inventory: datasets, columns and completeness are read from the store alone."""

import gzip
from dataclasses import replace

import pytest

from pipelines import storage
from pipelines.cells import inventory
from pipelines.cells.cell import cell_uri, publish_cell
from pipelines.data import evaluation_sets
from pipelines.records import Settings
from tests.support.fake_stores import column, dataset, fill, rows

RESNEST, LITE = "resnest50d", "efficientnet_lite0"


def test_columns_are_found_with_what_they_are_of_and_how_many_shards_have_cells(store: str) -> None:
    data = dataset("photos", shards=3, rows=4)
    fill(store, data, column(LITE), 1.0, "imagenet-val")
    of = column(RESNEST, Settings(precision="bf16", batch_size=8), "fast", subset=(1, 2, 3))
    publish_cell(
        store,
        data,
        of,
        data.shards[1],
        rows(4, 1.0).set_column(3, "classes", [[[1, 2, 3]] * 4]).set_column(4, "probs", [[[0.5, 0.3, 0.2]] * 4]),
    )
    held, masked = inventory.holdings(store)
    assert (held.dataset, held.definition, held.unreadable) == (data, "imagenet-val", {})
    assert (masked.dataset, masked.definition) == (data, None)
    (lite,), (resnest,) = held.columns, masked.columns
    assert (lite.model, lite.complete, lite.weights) == (LITE, True, column(LITE).weights)
    assert (resnest.name, resnest.settings, resnest.decoder, resnest.subset) == (
        of.name,
        of.settings,
        "fast",
        (1, 2, 3),
    )
    assert (resnest.num_classes, resnest.committed) == (1000, data.shards[1:2])
    assert [(shard.name, table.num_rows) for shard, table in resnest.load()] == [("00001", 4)]


def test_datasets_of_one_name_keep_their_cells_apart(tmp_path) -> None:
    whole = dataset("photos", shards=2, rows=4)
    part = replace(whole, shards=(replace(whole.shards[0], limit=2),))
    fill(str(tmp_path), whole, column(LITE), 1.0)
    inventory.note(str(tmp_path), part, None)
    publish_cell(str(tmp_path), part, column(LITE), part.shards[0], rows(2, 1.0))
    found = {held.dataset.digest: held.columns[0].committed for held in inventory.holdings(str(tmp_path))}
    assert found == {whole.digest: whole.shards, part.digest: part.shards}


def test_a_dataset_without_cells_is_not_held_and_a_store_with_nothing_holds_nothing(tmp_path) -> None:
    assert inventory.holdings(str(tmp_path)) == []
    inventory.note(str(tmp_path), dataset(), None)
    assert inventory.holdings(str(tmp_path)) == []


def test_noting_again_leaves_the_same_bytes(tmp_path) -> None:
    inventory.note(str(tmp_path), dataset(), None)
    (note,) = storage.list_objects(f"{tmp_path}/datasets")
    before = storage.read(note.uri)
    inventory.note(str(tmp_path), dataset(), None)
    assert [storage.read(entry.uri) for entry in storage.list_objects(f"{tmp_path}/datasets")] == [before]


def test_what_was_said_of_a_dataset_stands_until_something_else_is_said(tmp_path) -> None:
    fill(str(tmp_path), dataset(), column(LITE), 1.0)
    for said, stands in (("imagenet-val", "imagenet-val"), (None, "imagenet-val"), ("imagenet-v2", "imagenet-v2")):
        told = inventory.note(str(tmp_path), dataset(), evaluation_sets.named(said) if said else None)
        assert (told is not None) == (said == "imagenet-v2")
        assert [held.definition for held in inventory.holdings(str(tmp_path))] == [stands]


def test_a_dataset_is_each_set_of_which_the_same_classes_count(tmp_path) -> None:
    few = evaluation_sets.named("imagenet-r")
    for kind, one in (
        (evaluation_sets.named("imagenet-val"), column(LITE)),
        (few, replace(column(LITE), subset=few.subset)),
    ):
        fill(str(tmp_path), dataset(), one, 1.0)
        inventory.note(str(tmp_path), dataset(), kind)
    held = {found.definition: [each.subset for each in found.columns] for found in inventory.holdings(str(tmp_path))}
    assert held == {"imagenet-val": [None], "imagenet-r": [few.subset]}


def test_the_note_of_many_shards_is_compressed_and_read_again(tmp_path) -> None:
    many = dataset("pool", shards=20_000)
    inventory.note(str(tmp_path), many, None)
    publish_cell(str(tmp_path), many, column(LITE), many.shards[7], rows(50, 1.0))
    (note,) = storage.list_objects(f"{tmp_path}/datasets")
    assert note.uri.endswith(".json.gz") and note.size < 300_000
    assert len(gzip.decompress(storage.read(note.uri))) > 1 << 20
    (held,) = inventory.holdings(str(tmp_path))
    assert held.dataset == many and held.columns[0].committed == many.shards[7:8]


def test_a_damaged_cell_makes_its_column_unreadable_and_no_other(tmp_path) -> None:
    data = dataset(shards=1, rows=4)
    for model in (LITE, RESNEST):
        fill(str(tmp_path), data, column(model), 1.0)
    place = storage.local_path(cell_uri(str(tmp_path), data, column(LITE), data.shards[0]))
    place.write_bytes(place.read_bytes()[:-9] + b"X" * 9)
    (held,) = inventory.holdings(str(tmp_path))
    assert [found.model for found in held.columns] == [RESNEST]
    assert list(held.unreadable) == [column(LITE).name] and "damaged" in held.unreadable[column(LITE).name]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"shards": 3}'])
def test_a_damaged_note_is_named(tmp_path, content: bytes) -> None:
    storage.put(f"{tmp_path}/datasets/photos-12345678.json", content)
    with pytest.raises(ValueError, match=r"photos-12345678\.json is not a note of a dataset"):
        inventory.holdings(str(tmp_path))


def test_a_note_that_is_not_of_its_shards_is_named(tmp_path) -> None:
    inventory.note(str(tmp_path), dataset(), None)
    (note,) = storage.list_objects(f"{tmp_path}/datasets")
    storage.replace(note.uri, storage.read(note.uri).replace(b'"size":[1000', b'"size":[1001'))
    with pytest.raises(ValueError, match="its digest is not that of its shards"):
        inventory.holdings(str(tmp_path))
