"""Covers pipelines.evaluation.mislabelled: labels numbered in another way are seen, right ones never are."""

import csv
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.evaluation_sets import known_sets
from pipelines.evaluation.mislabelled import Ints, labels_and_tops, renumbering
from tests.support import cell_rows
from tests.support.paths import SAMPLE
from zoo import imagenet

SUBSETS = {name: known.subset for name, known in known_sets().items() if known.subset}


def truth(rows: int, classes: int, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(0, classes, rows)


def predicted(classes_of: Ints, classes: int, accuracy: float, seed: int = 1) -> Ints:
    """What a model of this accuracy says: a wrong class is often a neighbour, as ImageNet's mistakes are."""
    random = np.random.default_rng(seed)
    near = (classes_of + random.choice([-2, -1, 1, 2, 5], len(classes_of))) % classes
    wrong = np.where(random.random(len(classes_of)) < 0.5, near, random.integers(0, classes, len(classes_of)))
    return np.where(random.random(len(classes_of)) < accuracy, classes_of, wrong)


def sorted_as_text(numbers: Sequence[int]) -> Ints:
    """Of each class the position of its folder, where folders are in the order of their names."""
    order = sorted(range(len(numbers)), key=lambda at: str(numbers[at]))
    return np.argsort(np.array(order))


DEVKIT = np.array(imagenet.devkit_positions())
BY_NAME = np.argsort(np.argsort(np.array([name.casefold() for name in imagenet.class_names()])))
WRONG: dict[str, Callable[[Ints], Ints]] = {
    "less one": lambda right: right + 1,
    "plus one": lambda right: right - 1,
    "0, 1, 10, 100, … as text, from 0": lambda right: sorted_as_text(range(1000))[right],
    "1, 10, 100, … as text, from 0": lambda right: sorted_as_text(range(1, 1001))[right],
    "ILSVRC2012_ID, from 0": lambda right: DEVKIT[right],
    "ILSVRC2012_ID, from 1": lambda right: DEVKIT[right] + 1,
    "names of the classes, from 0": lambda right: BY_NAME[right],
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("accuracy", [0.4, 0.8])
def test_labels_numbered_in_a_way_that_people_meet_are_named(name: str, accuracy: float) -> None:
    right = truth(1000, 1000)
    found = renumbering(WRONG[name](right), predicted(right, 1000, accuracy), 1000)
    assert found
    assert name in str(found)
    assert found.agree > 0.9 * accuracy * found.rows


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", SUBSETS)
def test_labels_numbered_among_the_classes_of_a_set_are_named(name: str, first: int) -> None:
    classes = np.array(SUBSETS[name])
    position = truth(1000, 200)
    found = renumbering(position + first, predicted(classes[position], 1000, 0.6), 1000, SUBSETS)
    assert found
    assert f"the 200 classes of {name}, from {first}" in str(found)


@pytest.mark.parametrize(("rows", "classes"), [(1000, 1000), (2000, 1000), (1000, 200), (300, 37), (200, 10)])
def test_any_other_order_is_seen_where_labels_repeat(rows: int, classes: int) -> None:
    order = np.random.default_rng(5).permutation(classes)
    while (order == np.arange(classes)).any():  # one that leaves no class where it was
        order = np.random.default_rng(order[0]).permutation(order)
    right = truth(rows, classes)
    found = renumbering(order[right], predicted(right, classes, 0.85), classes)
    assert found
    assert "another numbering" in str(found)


def test_labels_sorted_by_class_are_judged_alike() -> None:
    right = np.sort(truth(50000, 1000))[:1000]
    tops = predicted(right, 1000, 0.8)
    assert renumbering(right, tops, 1000) is None
    assert "less one" in str(renumbering(right + 1, tops, 1000))


RIGHT = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 3000),
        "classes": st.sampled_from([2, 3, 10, 100, 200, 1000]),
        "accuracy": st.sampled_from([0.0, 0.02, 0.05, 0.2, 0.5, 0.8, 1.0]),
        "seed": st.integers(0, 2**32),
        "kept": st.sampled_from(["all", "sorted", "one class", "two classes", "a few"]),
    }
)


@settings(deadline=None, max_examples=200)
@given(RIGHT)
def test_right_labels_are_never_suspected_however_poor_the_model_or_few_the_classes(case) -> None:
    right = truth(case["rows"], case["classes"], case["seed"])
    few = {"one class": 1, "two classes": 2, "a few": 15}.get(case["kept"], case["classes"])
    right = np.sort(right) if case["kept"] == "sorted" else right % min(few, case["classes"])
    tops = predicted(right, case["classes"], case["accuracy"], case["seed"] + 7)
    assert renumbering(right, tops, case["classes"], SUBSETS) is None


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([10, 1000]))
def test_a_model_that_knows_only_a_few_classes_says_nothing_about_labels(seed: int, known: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    tops = random.choice(random.integers(0, classes, known), 1500)
    assert renumbering(truth(1500, classes, seed + 1), tops, classes, SUBSETS) is None


def test_classes_that_are_taken_for_their_neighbour_are_no_evidence() -> None:
    """Adjacent synsets look alike (maillot, tank suit): of few classes all rows may be off by one."""
    right = truth(1000, 9) * 2
    assert renumbering(right, right + 1, 1000) is None


@pytest.mark.parametrize("name", SUBSETS)
def test_a_hard_set_that_a_model_gets_consistently_wrong_is_not_suspected(name: str) -> None:
    """ImageNet-A holds what a ResNet-50 gets wrong, some classes always as the same other one."""
    classes = np.array(SUBSETS[name])
    right = truth(1500, 200)
    random = np.random.default_rng(3)
    usual = random.integers(0, 200, 200)
    tops = np.where(random.random(1500) < 0.3, usual[right], random.integers(0, 200, 1500))
    assert renumbering(classes[right], classes[tops], 1000, {name: SUBSETS[name]}) is None


@pytest.mark.acceptance
@pytest.mark.parametrize("model", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_real_predictions_tell_right_labels_from_wrong_ones(sample_images, model: str) -> None:
    rows = list(csv.DictReader((SAMPLE / f"{model}.csv").read_text().splitlines()))
    labels, tops = (np.array([int(row[name]) for row in rows]) for name in ("label", "class0"))
    assert renumbering(labels, tops, 1000, SUBSETS) is None
    for name, wrong in WRONG.items():
        assert name in str(renumbering(wrong(labels), tops, 1000, SUBSETS))


def test_rows_without_label_or_scores_do_not_count() -> None:
    table = cell_rows.cell_rows(6, errors=(1, 4))
    labels, tops = labels_and_tops([table, table], 5)
    assert labels.tolist() == tops.tolist() == [0, 2, 3, 5, 0]
    assert [len(part) for part in labels_and_tops([], 5)] == [0, 0]
