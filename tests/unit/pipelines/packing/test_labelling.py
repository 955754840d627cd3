"""packing.labelling, label_table, matching: a table of labels in any usual form, or an error with its line."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.packing import folders, label_table, labelling
from pipelines.packing.matching import match
from tests.support.logs import messages_of
from zoo import imagenet

SYNSETS = imagenet.synsets()
Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    def write(*names: str) -> Path:
        for name in names:
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / name).write_bytes(b"x")
        return tmp_path / "images"

    return write


def labels_of(root: Path, content: bytes | str | None, classes: str | None = None) -> dict[str, int | None]:
    """The labels of the images in `root` by a table in a file beside it, or by what lies in `root` itself."""
    path = root.parent / "labels.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = labelling.given(None if content is None else str(path), classes)
    return {image.key: image.label for image in folders.list_images(root, options)[0]}


TABLES = {
    "key": "key,label\na b,5\nc,7\n",
    "suffixes": "filename,label\na b.JPEG,5\nc.png,7\n",
    "another suffix": "file_name,label\na b.jpg,5\nc.jpg,7\n",
    "caffe": "a b.JPEG 5\nc.png 7\n",
    "mlperf": "val/a b.JPEG 5\r\nval/c.png 7\r\n",
    "words with a header": "file label\nc.png 7\n./x/c.png 7\n",
    "synsets": f"key,label\na b,{SYNSETS[5]}\nc,{SYNSETS[7]}\n",
    "tabs": "key\tlabel\na b\t5\nc\t7\n",
    "semicolons": "Image;Target\na b;5.0\nc;7.\n",
    "no header": "a b.JPEG,5\nc.png,7\n",
    "label first": "5\ta b.JPEG\n7\tc.png\n",
    "pandas": ",path,label\n0,/data/train/a b.JPEG,5\n1,/data/train/c.png,7\n",
    "windows": "path,class_id\nD:\\data\\a b.JPEG,5\nD:\\data\\c.png,7\n",
    "uris": "uri,label\ns3://bucket/data/a b.JPEG,5\ns3://bucket/data/c.png,7\n",
    "kaggle": f"ImageId,PredictionString\na b,{SYNSETS[5]} 1 2 3 4 {SYNSETS[5]} 5 6 7 8 \nc,{SYNSETS[7]} 1 2 3 4\n",
    "mark and CRLF": "\ufeffkey,label\r\n\r\na b,5\r\nc,7\r\n",
    "other columns": "label,note,key,key2\n5,x,a b,y\n7,x,c,y\n",
    "JSON lines": '{"file_name": "a b.JPEG", "label": 5}\n{"label": 7.0, "file_name": "c.png"}\n',
    "JSON list": json.dumps([{"image": "a b", "wnid": SYNSETS[5]}, {"image": "c", "wnid": SYNSETS[7]}], indent=1),
    "JSON map": json.dumps({"a b.JPEG": 5, "c.png": 7}, indent=1),
}


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_in_any_usual_form_gives_the_same_labels(fill: Fill, form: str, encoding: str) -> None:
    content = TABLES[form]
    labels = labels_of(fill("a b.JPEG", "c.png"), content.encode(encoding))
    assert labels == ({"a b": None, "c": 7} if form == "words with a header" else {"a b": 5, "c": 7})


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a b.JPEG", "c.png"], pa.array([5, 7], pa.uint16())),
        (["a b", "c"], pa.array([5.0, 7.0])),
        ([b"a b", b"c"], pa.array([SYNSETS[5], SYNSETS[7]]).dictionary_encode()),
    ],
)
def test_parquet_is_a_table_too(fill: Fill, names: list, labels: pa.Array) -> None:
    root = fill("a b.JPEG", "c.png")
    pq.write_table(pa.table({"path": names, "label": labels}), root.parent / "t")
    assert labels_of(root, (root.parent / "t").read_bytes()) == {"a b": 5, "c": 7}


@pytest.mark.parametrize("none", ["", "-1", "-1.0", "nan", "NaN", "null", "None", " "])
def test_what_says_that_there_is_no_label_is_counted(fill: Fill, none: str) -> None:
    root = fill("a.jpg", "b.jpg")
    assert labels_of(root, f"key,label\na,{none}\nb,3\n") == {"a": None, "b": 3}
    table = label_table.parse(f"key,label\na,{none}\nb,3\n".encode(), "t")
    assert table.understood("") == "t: column key, column label (numbers, 1 without a label), 2 rows"


def test_one_line_says_how_the_table_was_understood(fill: Fill) -> None:
    root = fill("v/a.jpg", "v/b.jpg")
    (root.parent / "l.csv").write_text(f"file_name,synset\na.jpg,{SYNSETS[5]}\nb.jpg,{SYNSETS[7]}\n")
    found = folders.list_images(root, labelling.given(f"{root.parent}/l.csv", None))[1]
    way = "suffix dropped, folders added"
    assert found.understood == f"{root.parent}/l.csv: column file_name ({way}), column synset (synsets), 2 rows"


NAMES = st.from_regex(r"[a-z]{1,3}(\.[a-z0-9]{1,3})?", fullmatch=True).filter(
    lambda name: not name.endswith((".jpg", ".png"))
)


@settings(max_examples=80)
@given(
    st.lists(st.lists(NAMES, min_size=2, max_size=3).map("/".join), min_size=2, max_size=8, unique=True),
    st.sampled_from(["", "/data/set/", "set/", "s3://bucket/set/"]),
    st.sampled_from(["", ".jpg", ".JPEG", ".png"]),
)
def test_leading_folders_and_suffixes_change_no_label(keys: list[str], above: str, suffix: str) -> None:
    rows = "".join(f'"{above}{key}{suffix}",{label}\n' for label, key in enumerate(keys))
    try:
        labels, idle, _ = match(label_table.parse(f"path,label\n{rows}".encode(), "t"), keys)
    except ValueError as error:
        assert "could be any of" in str(error)  # one path may be the end of another
        return
    assert (labels, idle) == ({key: label for label, key in enumerate(keys)}, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty; expected lines with the columns key"),
        ("photo,species\na,5\n", "line 1: cannot tell the columns of 'photo,species'"),
        ("1,a.jpg,5\n2,b.jpg,6\n", "line 1: cannot tell the columns of '1,a.jpg,5'"),
        ("1,5\n2,6\n", "line 1: which field of '1,5' is the label? add a header, key,label"),
        ("a.jpg\nb.jpg\n", "line 1: cannot tell the columns of 'a.jpg'"),
        ("key,name2\na,5\n", "line 1: lacks a column of labels; it has key, name2"),
        ("what,label\na,5\n", "line 1: lacks a column of images; it has what, label"),
        ("key,label,label\na,5,7\n", "names a column twice: label"),
        ("file_name,path,label\na,b,5\n", "the columns file_name and path could mean the same"),
        ("key,class,target\na,5,6\n", "the columns class and target could mean the same; leave one, or call it label"),
        ("key,label\na,cat\n", "line 2: label 'cat' is not an integer from 0 to 2147483647, nor a synset"),
        ("key,label\nb,1\na,-2\n", "line 3: label '-2' is not a whole number, as labels before it are"),
        ("key,label\na,5.5\n", "line 2: label '5.5' is not an integer"),
        ("key,label\na,2147483648\n", "line 2: label '2147483648' is not an integer from 0 to 2147483647"),
        ("key,label\na,n99999999\n", "line 2: label 'n99999999' is none of ImageNet's 1000 synsets"),
        (f"key,label\na,{SYNSETS[1]}\nb,1\n", "line 3: label '1' is not a synset of ImageNet, as labels before"),
        (f"ImageId,PredictionString\na,{SYNSETS[1]} 1 2 3 4 {SYNSETS[2]} 1 2 3 4\n", "names 2 synsets"),
        ("key,label\na\n", "line 2: expected one field for each of key, label, found 1"),
        ("key,label\na,5,6\n", "line 2: expected one field for each of key, label, found 3"),
        ("key,label\n,5\n", "line 2: expected one field for each of key, label"),
        ("key,label\na,5\nb,1\na,6\n", "line 4: 'a' has label 6 here and 5 above"),
        ("path,label\na.jpg,5\n/x/a.jpg,6\n", "line 3: 'a' has label 6 here and 5 above"),
        ("key,label\n", "no label for any image; its keys: none; the images': a, b"),
        ("key,label\nz,5\n", "no label for any image; its keys: z; the images': a, b"),
        (b"\xff\xd8\xff", "labels.csv: not UTF-8 text (invalid start byte at byte 0)"),
        ('{"key": "a", "label": 5}\n{"key": "b"\n', "line 2: not JSON"),
        ('{"key": "a", "label": 5}\n{"label": 5}\n', "line 2: has no key"),
        ("[1, 2]", "entry 1: expected an object"),
        ('{"key": "a", "label": true}', "entry 1: label 'True' is not an integer"),
        ("a.jpg 5\nb.jpg 6\n" * 600 + "c\n", "line 1201: expected a name and a label"),
    ],
)
def test_a_table_that_is_not_clear_is_refused_with_its_line(fill: Fill, content: bytes | str, message: str) -> None:
    with pytest.raises(ValueError, match=r"labels\.csv") as error:
        labels_of(fill("a.jpg", "b.jpg"), content)
    assert message in str(error.value)


def test_a_name_that_could_be_two_images_is_refused(fill: Fill) -> None:
    root = fill("x/1.jpg", "y/1.jpg", "y/2.jpg")
    assert labels_of(root, "path,label\nx/1.jpg,1\nd/y/1.jpg,2\n2.jpg,3\n") == {"x/1": 1, "y/1": 2, "y/2": 3}
    with pytest.raises(ValueError, match=r"line 2: '1.jpg' could be any of the images x/1, y/1"):
        labels_of(root, "path,label\n1.jpg,1\n")
    with pytest.raises(ValueError, match="no label for any image"):
        labels_of(root, "path,label\nz/1.jpg,1\n")


@pytest.mark.parametrize("folder", ["", "x/", "/data/x/"])
def test_accents_of_names_may_be_one_letter_or_two(fill: Fill, folder: str) -> None:
    root = fill("x/cafe\u0301.jpg", "x/na\u00efve.jpg")
    table = f"path,label\n{folder}caf\u00e9.jpg,1\n{folder}nai\u0308ve.jpg,2\n"
    assert labels_of(root, table) == {"x/cafe\u0301": 1, "x/na\u00efve": 2}


def test_a_name_that_is_two_images_by_its_accents_means_the_one_as_it_is_written(fill: Fill) -> None:
    root = fill("cafe\u0301.jpg", "caf\u00e9.jpg")
    assert labels_of(root, "path,label\ncafe\u0301.jpg,1\ncaf\u00e9.jpg,2\n") == {"cafe\u0301": 1, "caf\u00e9": 2}


def test_tiny_imagenets_annotations_are_a_table(fill: Fill) -> None:
    root = fill("val/images/val_0.JPEG", "val/images/val_1.JPEG")
    table = f"val_0.JPEG\t{SYNSETS[5]}\t0\t32\t44\t62\nval_1.JPEG\t{SYNSETS[7]}\t52\t55\t57\t59\n"
    assert labels_of(root, table) == {"val/images/val_0": 5, "val/images/val_1": 7}


def test_a_key_is_no_name_with_a_suffix(fill: Fill) -> None:
    root = fill("a.jpg", "a.jpg.png")
    assert labels_of(root, "key,label\na.jpg,1\na,2\n") == {"a": 2, "a.jpg": 1}
    with pytest.raises(ValueError, match=r"could be any of the images a, a\.jpg"):
        labels_of(root, "file,label\na.jpg,1\n")


def test_names_of_classes_are_labels_with_their_order(fill: Fill) -> None:
    root = fill("a.jpg", "b.jpg")
    (root.parent / "c.txt").write_text("dog\ncat\n")
    table = "key,label\na,cat\nb,dog\n"
    assert labels_of(root, table, f"{root.parent}/c.txt") == {"a": 1, "b": 0}
    assert labels_of(root, table, "sorted") == {"a": 0, "b": 1}
    assert labels_of(root, "key,label\na,1\nb,0\n", f"{root.parent}/c.txt") == {"a": 1, "b": 0}
    with pytest.raises(ValueError, match=r"line 3: label 'emu' is not among the names of .*c.txt"):
        labels_of(root, "key,label\na,cat\nb,emu\n", f"{root.parent}/c.txt")
    with pytest.raises(ValueError, match=r"line 2: label '2' is not an integer from 0 to 1, the labels of .*c.txt"):
        labels_of(root, "key,label\na,2\n", f"{root.parent}/c.txt")


def test_an_image_without_a_label_and_a_label_without_an_image_are_said_in_one_line(
    fill: Fill, caplog: pytest.LogCaptureFixture
) -> None:
    assert labels_of(fill("1.jpg", "2.jpg"), "key,label\n2,5\n3,6\n") == {"1": None, "2": 5}
    (line,) = messages_of(labelling.__name__, caplog)
    assert "1 images have no label there and are packed without (1)" in line
    assert "1 labels without an image are left out (3)" in line


def test_labels_that_fit_say_nothing(fill: Fill, caplog: pytest.LogCaptureFixture) -> None:
    table = '\ufefflabel,key,note\r\n3,"a,b",x\r\n\r\n3,"a,b",again\r\n'
    assert labels_of(fill("a,b.jpg"), table) == {"a,b": 3}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_images_directly_in_the_folder_are_unlabelled_and_it_is_said(
    fill: Fill, caplog: pytest.LogCaptureFixture
) -> None:
    root = fill("1.jpg", "2.jpg")
    assert labels_of(root, None) == {"1": None, "2": None}
    assert "no image gets a label" in caplog.text
    with pytest.raises(ValueError, match="--classes names folders, and the images lie in none; give --labels"):
        labels_of(root, None, "sorted")


def test_classes_none_packs_any_folders_without_labels(fill: Fill) -> None:
    assert labels_of(fill("1.jpg", "x/2.jpg", "x/y/3.jpg"), None, "none") == {"1": None, "x/2": None, "x/y/3": None}


@pytest.mark.parametrize("folder", ["", "train/"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", "file_name,label\ncat/1.jpg,5\ndog/2.jpg,7\n"),
        ("metadata.jsonl", '{"file_name": "cat/1.jpg", "label": 5}\n{"file_name": "dog/2.jpg", "label": 7}\n'),
    ],
)
def test_an_imagefolders_metadata_has_the_labels(fill: Fill, folder: str, name: str, content: str) -> None:
    root = fill(f"{folder}cat/1.jpg", f"{folder}dog/2.jpg")
    (root / folder / name).write_text(content)
    assert labels_of(root, None) == {f"{folder}cat/1": 5, f"{folder}dog/2": 7}


def test_metadata_that_says_no_labels_is_left_out_and_it_is_said(fill: Fill, caplog: pytest.LogCaptureFixture) -> None:
    root = fill("5/1.jpg", "7/2.jpg")
    (root / "metadata.csv").write_text("file_name,text\n5/1.jpg,a cat\n")
    (root / "metadata.jsonl").write_text('{"file_name": "other.jpg", "label": 1}\n')
    assert labels_of(root, None) == {"5/1": 5, "7/2": 7}
    assert "metadata.csv: has no column of labels and is left out" in caplog.text
    assert "metadata.jsonl: names no image that is there (other.jpg) and is left out" in caplog.text


def test_metadata_that_contradicts_folders_or_other_metadata_is_refused(fill: Fill) -> None:
    root = fill("5/1.jpg", "7/2.jpg")
    (root / "metadata.csv").write_text("file_name,label\n5/1.jpg,5\n7/2.jpg,8\n")
    with pytest.raises(ValueError, match=r"7/2 has label 8 by .*metadata.csv and 7 by its folder; --labels chooses"):
        labels_of(root, None)
    (root / "metadata.jsonl").write_text('{"file_name": "5/1.jpg", "label": 1}\n')
    with pytest.raises(ValueError, match=r"metadata.csv and metadata.jsonl give other labels; name one with --labels"):
        labels_of(root, None)


def test_a_table_among_the_images_is_named_where_labels_are_missing(
    fill: Fill, caplog: pytest.LogCaptureFixture
) -> None:
    root = fill("1.jpg", "labels.csv", "README.txt")
    assert labels_of(root, None) == {"1": None}
    assert f"no image gets a label; there is --labels {root}/labels.csv" in caplog.text
    other = fill("x/1.jpg", "LOC_val_solution.csv").parent / "images"
    (other / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"would have one class; .*; there is --labels .*/LOC_val_solution.csv"):
        labels_of(other, None)
