"""packing.classes, numbered, json_text: names and numbers of classes mean what their files say, or are refused."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.packing import class_folders, label_table, uri_list
from pipelines.packing.classes import Classes, read_classes
from pipelines.packing.uri_list import UriList
from zoo import imagenet

SYNSETS = imagenet.synsets()


def classes_in(path: Path, content: str) -> Classes:
    path.write_text(content)
    return read_classes(str(path))


def parquet_in(path: Path, names: list[str], numbers: list[int | None], column: str = "label") -> str:
    """A file as `datasets` writes it, with the feature ClassLabel."""
    feature = {"names": names, "_type": "ClassLabel"}
    stored = json.dumps({"info": {"features": {column: feature}}})
    table = pa.table({"uri": [f"s3://b/{row}.jpg" for row in range(len(numbers))], column: pa.array(numbers)})
    pq.write_table(table.replace_schema_metadata({"huggingface": stored}), path)
    return str(path)


@pytest.mark.parametrize("none", ["", "-1", "-1.0", "NaN", "null", "NONE", "na", "N/A", " "])
def test_what_says_that_there_is_no_label_is_no_class_among_sorted_names(none: str) -> None:
    table = label_table.parse(f"key,label\na,dog\nb,{none}\nc,cat\n".encode(), "t", "sorted")
    assert table.labels == [1, None, 0]
    assert "; 2 classes, positions of the sorted names: cat 0, dog 1" in table.understood("")


@pytest.mark.parametrize(
    ("names", "labels"),
    [([SYNSETS[7], SYNSETS[5]], [5, 7, None, None]), (["30", "20"], [20, 30, None, None])],
)
def test_numbers_mean_what_datasets_names_them(tmp_path: Path, names: list[str], labels: list) -> None:
    path = parquet_in(tmp_path / "t.parquet", names, [1, 0, -1, None])
    table = label_table.parse(Path(path).read_bytes(), "t")
    assert table.labels == labels
    assert "column label by its class names (numbers, 2 without a label)" in table.understood("")
    listed = UriList(uri=path)
    assert "column label by its class names (numbers, 2 without" in uri_list.check(listed)[1]
    assert next(uri_list.slices(listed, 9)).labels == labels


def test_numbers_with_names_are_labelled_by_the_file_of_classes(tmp_path: Path) -> None:
    classes = classes_in(tmp_path / "c.txt", "emu\ndog\ncat\n")
    path = parquet_in(tmp_path / "t.parquet", ["cat", "dog"], [0, 1], "class")
    assert label_table.parse(Path(path).read_bytes(), "t", classes).labels == [2, 1]
    assert next(uri_list.slices(UriList(uri=path, classes=classes), 9)).labels == [2, 1]
    assert label_table.parse(Path(path).read_bytes(), "t", "sorted").labels == [0, 1]


@pytest.mark.parametrize(
    ("names", "numbers", "said"),
    [
        (["n99999999", SYNSETS[5]], [0], "n99999999 of column label's class names is none of ImageNet's 1000 synsets"),
        ([SYNSETS[5]], [0, 1], "row 1: label 1 is none of the column's 1 classes"),
        (list(reversed(imagenet.class_names())), [0], "numbers ImageNet's classes in another order"),
    ],
)
def test_numbers_whose_names_are_not_clear_are_refused(
    tmp_path: Path, names: list[str], numbers: list, said: str
) -> None:
    path = parquet_in(tmp_path / "t.parquet", names, numbers)
    for read in (lambda: label_table.parse(Path(path).read_bytes(), path), lambda: uri_list.check(UriList(uri=path))):
        with pytest.raises(ValueError, match=rf"t\.parquet.*{re.escape(said)}"):
            read()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a.jpg": 1, "a.jpg": 2}', "t: the entry 'a.jpg' occurs twice"),
        ('{"key": "a", "label": 1}\n{"key": "b", "label": 1, "label": 1}', "t line 2: the entry 'label' occurs twice"),
        ("[" * 100_000, "t: not JSON that can be read: nested too deeply"),
        ('{"key": "a", "label": "\\ud800"}', "t: '\\ud800' is half a letter"),
    ],
)
def test_json_of_labels_that_is_not_clear_is_refused(content: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        label_table.parse(content.encode(), "t")


@pytest.mark.parametrize("field", ["key", "id"])
def test_zero_is_a_name(field: str) -> None:
    table = label_table.parse(f'{{"{field}": 0, "label": 3}}\n{{"{field}": 1, "label": 4}}\n'.encode(), "t")
    assert (table.names, table.labels) == (["0", "1"], [3, 4])


def test_lines_of_space_hold_nothing() -> None:
    assert label_table.parse(b"  \nkey,label\na,1\n \nb,2\n", "t").labels == [1, 2]
    assert label_table.parse(b"\t\nkey\tlabel\na\t1\n\t\nb\t2\n", "t").labels == [1, 2]


@pytest.mark.parametrize("header", ["class_name", "Name", "classes", "label", "Class Names", '"class"', "Class:"])
def test_a_header_is_no_class(tmp_path: Path, header: str) -> None:
    classes = classes_in(tmp_path / "c.txt", f"{header}\ncat\ndog\n")
    with pytest.raises(ValueError, match=rf"c\.txt: its first line {header!r} is no class in root, and looks like"):
        class_folders.by_folder(["cat/1", "dog/1"], "root", classes)
    with pytest.raises(ValueError, match="looks like a header"):
        label_table.parse(b"key,label\na,cat\nb,dog\n", "t", classes)
    (tmp_path / "l.csv").write_text("uri,label\ns3://b/1.jpg,cat\n")
    with pytest.raises(ValueError, match="looks like a header"):
        uri_list.check(UriList(uri=str(tmp_path / "l.csv"), classes=classes))
    assert class_folders.by_folder(["cat/1", f"{header}/1"], "root", classes).labels == [1, 0]


def test_comments_are_no_classes_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert classes_in(tmp_path / "c.txt", "# of 2020\ncat\n#x\ndog\n").labels == {"cat": 0, "dog": 1}
    assert "lines that begin with # are no classes (# of 2020, #x)" in caplog.text


def test_a_mapping_with_an_unknown_synset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2: n99999999 is none of ImageNet's 1000 synsets"):
        classes_in(tmp_path / "c.txt", f"{SYNSETS[7]} cock\nn99999999 what\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('["\\ud800"]', "is half a letter"),
        ('{"cat": 2147483648}', "the label of 'cat' is not an integer from 0 to 2147483647"),
        ('{"2147483648": "cat"}', "the label 2147483648 is not an integer from 0 to 2147483647"),
        (json.dumps({"9" * 5000: "cat"}), "is not an integer from 0"),
        ('{"cat": %s}' % ("9" * 5000), "c: "),
        ('{"0": "cat", "00": "dog"}', "the label 0 occurs twice"),
        ('["cat", null]', "null is no name of a class"),
        ('["cat", ""]', '"" is no name of a class'),
    ],
)
def test_json_of_classes_that_is_not_clear_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path))}/c: .*{re.escape(said)}|{tmp_path}/{said}"):
        classes_in(tmp_path / "c", content)


def test_accents_as_one_letter_or_two_are_one_name(tmp_path: Path) -> None:
    classes = classes_in(tmp_path / "c.txt", "caf\u00e9\nnai\u0308f\n")
    assert class_folders.by_folder(["cafe\u0301/1", "na\u00eff/1"], "root", classes).labels == [0, 1]
