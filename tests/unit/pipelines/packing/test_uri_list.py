"""packing.uri_list: a list of objects is read as it was written, or refused with the row, a slice at a time."""

import csv
import decimal
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack_shards
from pipelines.packing import uri_list
from pipelines.packing.classes import Classes
from pipelines.packing.uri_list import UriList
from zoo import imagenet

CATS = Classes(labels={"dog": 0, "cat": 1}, source="classes.txt")
YFCC = ["0", "123", "5d41", "4@N0", "nick", "2010", "12", "cam", "title", "desc", "tags", "", "", "", ""]
YFCC += ["http://www.flickr.com/photos/4/1/", "http://farm1.staticflickr.com/1/2.jpg", "licence"]
YFCC += ["http://creativecommons.org/licenses/by/2.0/", "1", "2", "3", "4", "jpg", "0"]


def put_csv(path: Path, rows: list[tuple]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_bytes(text.getvalue().encode())


def read_list(path: Path, content: bytes | str, classes: Classes | None = None) -> list[tuple]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    listed = UriList(uri=str(path), classes=classes)
    rows, _ = uri_list.check(listed)
    (part,) = uri_list.slices(listed, 10_000)
    assert rows == uri_list.count(listed) == len(part.uris)
    return list(zip(part.uris, part.keys, part.labels, strict=True))


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("limit", [None, 1, 5, 10])
def test_slices_are_the_list_in_order_from_csv_and_parquet_alike(tmp_path, rows, limit) -> None:
    uris = [f"s3://b/a/{i}.jpg" for i in range(10)]
    put_csv(tmp_path / "l.csv", [("label", "uri", "other"), *((i, uri, "x") for i, uri in enumerate(uris))])
    table = pa.table({"uri": uris, "label": range(10), "other": uris})
    pq.write_table(table, tmp_path / "l.parquet", row_group_size=3)
    for name in ("l.csv", "l.parquet"):
        parts = list(uri_list.slices(UriList(uri=f"{tmp_path}/{name}", limit=limit), rows))
        assert [part.start for part in parts] == list(range(0, limit or 10, rows))
        assert [uri for part in parts for uri in part.uris] == uris[:limit]
        assert [label for part in parts for label in part.labels] == list(range(10))[:limit]
        assert parts[0].keys[0] == "a/0"
        assert uri_list.count(UriList(uri=f"{tmp_path}/{name}")) == 10
        assert uri_list.count(UriList(uri=f"{tmp_path}/{name}", limit=3)) == 3


@pytest.mark.parametrize(
    "content",
    [
        "uri,label\ns3://b/x/1.jpg,5\ns3://b/x/2.jpg,\n",
        "\ufeffuri,label\r\ns3://b/x/1.jpg,5\r\ns3://b/x/2.jpg,-1\r\n",
        "\n\nuri,label\ns3://b/x/1.jpg,5\ns3://b/x/2.jpg,nan\n",
        "Path\tCLASS_ID\ts\ns3://b/x/1.jpg\t5.0\ta\ns3://b/x/2.jpg\t\tb\n",
        f",file_name;WNID\n0;s3://b/x/1.jpg;{imagenet.synsets()[5]}\n1;s3://b/x/2.jpg;\n".replace(",", ";"),
        "s3://b/x/1.jpg 5\ns3://b/x/2.jpg -1\n",
        "s3://b/x/1.jpg;5\ns3://b/x/2.jpg;\n",
        "5\ts3://b/x/1.jpg\n-1\ts3://b/x/2.jpg",
        "uri,label\ns3://b/x/1.jpg,5\ns3://b/x/2.jpg,null\n".encode("utf-16"),
        "uri,label\ns3://b/x/1.jpg,5\ns3://b/x/2.jpg,null\n".encode("utf-16-le"),
        f"ImageId,PredictionString\ns3://b/x/1.jpg,{imagenet.synsets()[5]} 1 2 3 4\ns3://b/x/2.jpg,\n",
    ],
)
def test_a_list_in_any_usual_form_is_the_same_list(tmp_path: Path, content: bytes | str) -> None:
    assert read_list(tmp_path / "list", content) == [("s3://b/x/1.jpg", "x/1", 5), ("s3://b/x/2.jpg", "x/2", None)]


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        ({"url": ["s3://b/1.jpg", "s3://b/2.jpg"], "label": pa.array([7, None], pa.uint8())}, [7, None]),
        ({"Path": pa.array([b"s3://b/1.jpg", b"s3://b/2.jpg"]), "label": [7.0, float("nan")]}, [7, None]),
        ({"uri": pa.array(["s3://b/1.jpg", "s3://b/2.jpg"], pa.large_string()), "label": ["7", "-1"]}, [7, None]),
        ({"uri": ["s3://b/1.jpg", "s3://b/2.jpg"], "target": [decimal.Decimal("7.00"), None]}, [7, None]),
        (
            {
                "uri": ["s3://b/1.jpg", "s3://b/2.jpg"],
                "wnid": pa.array([imagenet.synsets()[7], None]).dictionary_encode(),
            },
            [7, None],
        ),
    ],
)
def test_parquet_of_any_types_is_a_list(tmp_path: Path, table: dict, labels: list) -> None:
    pq.write_table(pa.table(table), tmp_path / "list.bin")
    (part,) = uri_list.slices(UriList(uri=f"{tmp_path}/list.bin"), 10)
    assert (part.uris, part.keys, part.labels) == (["s3://b/1.jpg", "s3://b/2.jpg"], ["1", "2"], labels)


def test_what_find_prints_is_a_list_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = read_list(tmp_path / "list.txt", "./o/a b, c.jpg\no/1.JPEG\n/abs/no_suffix.png\n")
    assert rows == [
        (f"{tmp_path}/o/a b, c.jpg", "o/a b, c", None),
        (f"{tmp_path}/o/1.JPEG", "o/1", None),
        ("/abs/no_suffix.png", "abs/no_suffix", None),
    ]


def test_names_of_classes_need_their_order(tmp_path: Path) -> None:
    content = "uri,label\ns3://b/1.jpg,cat\ns3://b/2.jpg,dog\n"
    assert [label for _, _, label in read_list(tmp_path / "l.csv", content, CATS)] == [1, 0]
    with pytest.raises(ValueError, match=r"l\.csv: row 0: label 'cat' .* give --classes FILE"):
        read_list(tmp_path / "l.csv", content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("foo,label\nx,1\n", "line 1: lacks a column of images; it has foo, label; expected a column uri"),
        ("uri,label\na,1\n,2\n", "row 1 has no uri"),
        ("uri,label\na,-2\n", "row 0: label '-2' is not an integer from 0"),
        ("uri,label\na,cat\n", "row 0: label 'cat' is not an integer"),
        ("uri,label\na,1\nb,1.5\n", "row 1: label '1.5' is not a whole number, as labels before it are"),
        ("uri,label\na,1\nb,n01440764\n", "row 1: label 'n01440764' is not a whole number"),
        ("uri,label\na,3000000000\n", "row 0: label '3000000000' is not an integer"),
        ("path,file_name\na,b\n", "the columns path and file_name could mean the same; leave one, or call it uri"),
        ("uri,uri\na,b\n", "names a column twice: uri"),
        ("uri\n", "names no object"),
        ("", "empty; expected lines with a column uri"),
        ("uri\na.jpg\n~nobody_at_all/b.jpg\n", "row 1 has the path '~nobody_at_all/b.jpg', of whose user no home is"),
        ("uri,label\na,1,2\n", "Expected 2 columns, got 3"),
        ("uri\ns3://b/1.jpg\ngs://b/2.jpg\n", "row 1 has the uri 'gs://b/2.jpg' of an unknown scheme"),
        ("url,caption\nhttps://h/1.jpg,x\n", "row 0 names an address: 'https://h/1.jpg' is on the web"),
        ("uri\n" + "s3://b/1.jpg\n" * 5 + "http://h/1.jpg\n", "row 5 names an address"),
        ("http://h/1.jpg\nhttp://h/2.jpg\n", "line 1: 'http://h/1.jpg' is on the web"),
        ("\t".join(YFCC) + "\n", "is on the web, .* YFCC100M lies in s3://multimedia-commons/data/images/"),
        ("2023-01-01 12:00:00     123 data/a.jpg\n", "a listing of `aws s3 ls`, which names no bucket"),
        ("dir/photo 12\ndir/photo 13\n", "line 1: cannot tell the columns of 'dir/photo 12'"),
        ("a.jpg 1\n" * 2000 + "b.jpg\n", "expected a name and a label in each line, found 'b.jpg'"),
        ('{"uri": "s3://b/1.jpg"}\n', "line 1: cannot tell the columns of"),
        (b"\x1f\x8b\x08\x00\xff\xfe", "compressed by gzip; inflate it first"),
        (b"\xff\xd8\xff\xe0", "not UTF-8 text"),
    ],
)
def test_a_list_that_names_nothing_is_refused_with_the_row_before_ray(
    tmp_path: Path, content: bytes | str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=said):
        read_list(tmp_path / "list.csv", content)
    for more in ([], ["--dry-run"]):
        assert pack_shards.main(["--keys", f"{tmp_path}/list.csv", "--output", f"{tmp_path}/out", *more]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_parquet_without_what_is_needed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(ValueError, match=r"list\.parquet"):
        uri_list.count(UriList(uri=f"{tmp_path}/list.parquet"))
    for table, said in [
        ({"foo": ["a"]}, "lacks a column of images; it has foo"),
        ({"uri": ["a"], "label": [[1]]}, "the column label holds list<.*>; expected text or numbers"),
        ({"uri": ["a"], "label": [True]}, "row 0: label 'true' is not an integer"),
        ({"uri": pa.array([], pa.string())}, "names no object"),
    ]:
        pq.write_table(pa.table(table), tmp_path / "list.parquet")
        with pytest.raises(ValueError, match=said):
            uri_list.check(UriList(uri=f"{tmp_path}/list.parquet"))


def test_a_dry_run_says_how_the_list_was_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "l.tsv").write_text("path\tlabel\ns3://b/1.jpg\t5\ns3://b/2.jpg\t-1\n")
    assert pack_shards.main(["--keys", f"{tmp_path}/l.tsv", "--output", f"{tmp_path}/out", "--dry-run"]) == 0
    said = "list: tabs: column path, column label (numbers, 1 without a label), 2 rows"
    assert capsys.readouterr().out.splitlines()[0] == said


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_folder_of_something_else_is_found_before_ray_and_by_a_dry_run(
    tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "l.csv").write_text("uri\ns3://b/1.jpg\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/other.tar").write_bytes(b"x")
    assert pack_shards.main(["--keys", f"{tmp_path}/l.csv", "--output", f"{tmp_path}/out", *more]) == 2
    assert "other.tar is there already and belongs to something else; choose a new folder" in capsys.readouterr().err


def test_objects_of_a_list_are_named_without_credentials_where_that_is_asked_for(tmp_path: Path) -> None:
    put_csv(tmp_path / "list.csv", [("uri",), ("s3://bucket/a.jpg",), ("/data/b.jpg",)])
    parts = [
        next(uri_list.slices(UriList(uri=str(tmp_path / "list.csv"), signed=signed), 9)) for signed in (True, False)
    ]
    assert [part.uris for part in parts] == [
        ["s3://bucket/a.jpg", "/data/b.jpg"],
        ["s3://anonymous@bucket/a.jpg", "/data/b.jpg"],
    ]
    assert parts[0].keys == parts[1].keys == ["a", "data/b"]
