"""packing.class_folders, packing.classes: an image's class is the folder that holds it, or the choices are named."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.packing import labelling
from pipelines.packing.class_folders import by_folder
from pipelines.packing.classes import Classes, read_classes
from zoo import imagenet

FIRST, TENTH = imagenet.synsets()[0], imagenet.synsets()[9]


def labels_of(*keys: str, classes: Classes | str | None = None, empty: tuple[str, ...] = ()) -> list[int]:
    return by_folder(keys, "root", classes, empty).labels


def classes_in(path: Path, content: str | object) -> Classes:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_classes(str(path))


@given(
    st.lists(st.integers(0, 2**31 - 1), min_size=2, unique=True),
    st.integers(0, 5),
    st.sampled_from(["", "val/", "a/b/"]),
)
def test_whole_numbers_are_labels_by_value_padded_or_not(numbers: list[int], width: int, prefix: str) -> None:
    assert labels_of(*(f"{prefix}{number:0{width}d}/x" for number in numbers)) == numbers


@given(st.lists(st.integers(0, 999), min_size=2, unique=True), st.sampled_from(["", "sketch/", "imagenet-a/"]))
def test_synsets_have_imagenets_labels_however_few_there_are(numbers: list[int], prefix: str) -> None:
    assert labels_of(*(f"{prefix}{imagenet.synsets()[number]}/x" for number in numbers)) == numbers


def test_a_folder_of_one_name_in_every_synset_is_passed_over() -> None:
    """As in Tiny ImageNet."""
    assert labels_of(f"train/{FIRST}/images/1", f"train/{TENTH}/images/1") == [0, 9]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["train/cat/1", "val/cat/1"], "train, val are splits of a dataset; pack one at a time: --images root/train"),
        ([f"train/{FIRST}/1", f"val/{TENTH}/1"], "train, val are splits of a dataset"),
        (["train/1", "val/2"], "train, val are splits of a dataset"),
        (["Train/1/x", "Test_2/1/x"], "Test_2, Train are splits of a dataset"),
        (["animals/cat/1", "things/car/1"], "animals, things hold folders of classes each; pack one at a time"),
        (["images/1", "images/2"], "all images lie in the folder images, .* --images root/images packs them without"),
        ([f"{FIRST}/1", f"{FIRST}/2"], "would have one class"),
        ([f"{FIRST}/1", f"{TENTH}/1", "extra/1"], r"2 folders are synsets of ImageNet \(.*\) and 1 are not \(extra\)"),
        (["0/1", "1/1", "cat/1"], r"2 folders are whole numbers \(0, 1\) and 1 are not \(cat\)"),
        (["01/1", "1/1"], "the folders 01 and 1 are the same label 1"),
        (["0/1", "2147483648/1"], "the folder 2147483648 is not a label from 0 to 2147483647"),
        ([f"{FIRST}/1", f"{TENTH}/more/1"], r"images lie at several depths \(n01440764/1, .*/more/1\)"),
        (["1", f"{TENTH}/1"], "images lie at several depths"),
        (
            ["cat/1", "dog/1"],
            r"the names of 2 folders \(cat, dog\) say no labels; give --classes FILE .* --classes sorted",
        ),
        (["n99999999/1", "n99999998/1"], "say no labels"),
    ],
)
def test_folders_that_say_no_labels_are_refused_with_the_choices(keys: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=f"^root: .*{said}.*--(labels|classes)"):
        labels_of(*keys)


def test_sorted_gives_positions_and_says_them() -> None:
    found = by_folder(["x/dog/1", "x/cat/1", "x/cat/2"], "root", "sorted")
    assert found.labels == [1, 0, 0]
    assert "positions of the sorted names: cat 0, dog 1" in found.understood
    assert found.classes and found.classes.labels == {"cat": 0, "dog": 1}


def test_an_empty_class_would_shift_positions_but_no_other_labels() -> None:
    with pytest.raises(ValueError, match="no image in x/bird"):
        labels_of("x/cat/1", "x/dog/1", classes="sorted", empty=("x/bird", "y"))
    assert labels_of("5/1", "7/1", empty=("6",)) == [5, 7]


def test_a_file_names_the_classes_in_the_order_of_labels(tmp_path: Path) -> None:
    classes = classes_in(tmp_path / "c.txt", "dog\r\ngreat white shark\r\n\r\ncat\r\n")
    assert labels_of("cat/1", "dog/1", "great_white_shark/1", classes=classes) == [2, 0, 1]
    assert labels_of("cat/1", classes=classes) == [2]
    with pytest.raises(ValueError, match=r"^root: emu, fox are not among the 3 names of .*c.txt \(dog, great white"):
        labels_of("cat/1", "emu/1", "fox/1", classes=classes)


def test_kaggles_mapping_gives_imagenets_labels_in_any_order_and_number(tmp_path: Path) -> None:
    rows = [(1, "goldfish, Carassius auratus"), (0, "tench, Tinca tinca"), (134, "crane"), (517, "crane")]
    lines = [f"{imagenet.synsets()[label]} {names}\n" for label, names in rows]
    classes = classes_in(tmp_path / "LOC_synset_mapping.txt", "".join(lines))
    assert labels_of("goldfish/1", "tench,_Tinca_tinca/1", "Tinca tinca/1", classes=classes) == [1, 0, 0]
    assert labels_of(f"{FIRST}/1", classes=classes) == [0]
    with pytest.raises(ValueError, match="crane is not among"):
        labels_of("crane/1", "tench/1", classes=classes)


@pytest.mark.parametrize(
    "content",
    [["dog", "cat"], {"dog": 0, "cat": 1}, {"1": "cat", "0": "dog"}, {"0": ["n1", "dog"], "1": ["n2", "cat"]}],
)
def test_json_names_classes_too(tmp_path: Path, content: object) -> None:
    assert labels_of("cat/1", "dog/1", classes=classes_in(tmp_path / "c.json", content)) == [1, 0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cat\ndog\ncat\n", "c line 3: the class 'cat' is in line 1 too"),
        (f"{FIRST} tench\n{FIRST} tench\n", "c line 2: the class 'n01440764' is in line 1 too"),
        ("", "names no class"),
        ({"a": 0, "b": 0}, "two names have the same label"),
        ({"a": "x"}, "expected a list of names, or a map"),
        ('{"a": 0, "a": 1}', "the entry 'a' occurs twice"),
        ("[1", "c: "),
    ],
)
def test_classes_that_are_not_clear_are_refused(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        classes_in(tmp_path / "c", content)


def test_none_and_a_table_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"--classes none: leaves images without labels, and --labels l\.csv gives"):
        labelling.given("l.csv", "none")
