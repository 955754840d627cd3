"""The thousand classes are in sorted-synset order, with names that tell them apart."""

import csv
import re
from pathlib import Path

import pytest

from zoo import imagenet


def test_synsets_are_a_thousand_wordnet_nouns_in_ascending_order():
    synsets = imagenet.synsets()
    assert len(synsets) == 1000
    assert list(synsets) == sorted(set(synsets))
    assert all(re.fullmatch(r"n\d{8}", synset) for synset in synsets)


def test_no_two_classes_share_a_name():
    names = imagenet.class_names()
    assert len(names) == 1000
    assert len({name.lower() for name in names}) == 1000
    assert all(name == name.strip() and name for name in names)


@pytest.mark.parametrize(
    ("index", "synset", "name"),
    [
        (0, "n01440764", "tench"),
        (1, "n01443537", "goldfish"),
        (134, "n02012849", "crane (wading bird)"),
        (264, "n02113186", "Cardigan, Cardigan Welsh corgi"),
        (517, "n03126707", "crane (lifting device)"),
        (638, "n03710637", "maillot (tights)"),
        (639, "n03710721", "maillot, tank suit"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_known_classes_have_their_published_index(index: int, synset: str, name: str):
    assert imagenet.synsets()[index] == synset
    assert imagenet.class_names()[index] == name


@pytest.mark.acceptance
def test_classes_agree_with_the_sample_images_own_names(sample_images: Path):
    with (sample_images / "labels.csv").open() as file:
        rows = [(row["key"].partition("_"), int(row["label"])) for row in csv.DictReader(file)]
    for (synset, _, name), label in rows:
        assert imagenet.synsets()[label] == synset
        # The sample's names are first lemmas; ours begin with the lemma where it had to be told from another.
        assert imagenet.class_names()[label].lower().startswith(name.replace("_", " ").lower())


def test_devkit_positions_are_each_class_once_and_those_of_the_first_validation_images():
    positions = imagenet.devkit_positions()
    assert sorted(positions) == list(range(1000))
    assert (imagenet.synsets()[positions.index(0)], imagenet.synsets()[positions.index(999)]) == (
        "n02119789",
        "n03255030",
    )
    # ILSVRC2012_val_00000002 to 5: the devkit's ground truth, less one, and the classes in sorted order.
    assert [positions.index(number) for number in (360, 170, 821, 296)] == [970, 230, 809, 516]
