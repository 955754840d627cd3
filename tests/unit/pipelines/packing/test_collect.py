"""packing.collect: listed objects become shards, in order, each once, whatever fails meanwhile."""

import csv
import io
import json
from pathlib import Path

import pytest

from jobs import pack_shards
from pipelines import storage
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.packing import collect
from pipelines.packing.collect import Collected
from pipelines.packing.pack import Target
from pipelines.packing.uri_list import UriList

PICTURES = {f"{i // 4}/{i:02}": bytes([i]) * 100 for i in range(18)}


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A local folder: the workers of the session's Ray do not know an S3 server that starts after them."""
    return str(tmp_path)


@pytest.fixture
def listed(store: str) -> str:
    """A CSV of eighteen objects, a duplicate of the third, an empty one and an absent one."""
    for key, content in {**PICTURES, "same": PICTURES["0/02"], "hollow": b""}.items():
        storage.put(f"{store}/objects/{key}.jpg", content)
    names = [*sorted(PICTURES)[:9], "same", "hollow", "gone", *sorted(PICTURES)[9:]]
    rows = [(f"{store}/objects/{name}.jpg", f"k/{name}", i) for i, name in enumerate(names)]
    return put_csv(f"{store}/list.csv", [("uri", "key", "label"), *rows])


def put_csv(uri: str, rows: list[tuple]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    storage.replace(uri, text.getvalue().encode())
    return uri


def run(listed: str, output: str, limit: int | None = None, *, dedup: bool = False, **changes) -> dict[int, Collected]:
    done: dict[int, Collected] = {}
    where = Target(**{"output": output, "format": "tar", "samples_per_shard": 5} | changes)
    collect.collect(UriList(uri=listed, limit=limit), where, dedup, 0.5, done.__setitem__)
    return done


def packed(output: str) -> list[tuple]:
    found = [sample for shard in find_dataset([output]).shards for sample in read.samples(shard)]
    return [(sample.key, sample.image, sample.label) for sample in found]


def expected(*, dedup: bool = False) -> list[tuple]:
    names = sorted(PICTURES)
    rows = [(f"k/{name}", PICTURES[name], i if i < 9 else i + 3) for i, name in enumerate(names)]
    return rows if dedup else [*rows[:9], ("k/same", PICTURES["0/02"], 9), *rows[9:]]


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_every_object_that_can_be_read_is_packed_and_others_are_said(listed, store, form) -> None:
    done = run(listed, f"{store}/out", format=form)
    assert packed(f"{store}/out") == expected()
    unread = [entry for number in sorted(done) for entry in done[number].unread]
    assert [(uri.rpartition("/")[2], reason.partition(":")[0]) for uri, reason in unread] == [
        ("hollow.jpg", "empty"),
        ("gone.jpg", "FileNotFoundError"),
    ]


@pytest.mark.usefixtures("local_ray")
def test_of_equal_images_the_first_in_the_list_is_packed(listed, store) -> None:
    done = run(listed, f"{store}/out", dedup=True)
    assert packed(f"{store}/out") == expected(dedup=True)
    assert sum(part.equal for part in done.values()) == 1


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("dedup", [False, True])
def test_what_is_done_is_not_done_again_and_the_rest_comes_to_the_same_bytes(listed, store, dedup) -> None:
    run(listed, f"{store}/whole", dedup=dedup)
    run(listed, f"{store}/torn", dedup=dedup)
    torn = [f"{store}/torn/{name}" for name in ("manifest.json", "000001.tar", "notes/000001.note")]
    storage.remove(torn)
    for key in sorted(PICTURES)[:5]:  # its shard is noted: nobody asks for these again
        storage.remove([f"{store}/objects/{key}.jpg"])
    run(listed, f"{store}/torn", dedup=dedup)
    for name in ("manifest.json", "000000.tar", "000001.tar", "000003.tar"):
        assert storage.read(f"{store}/torn/{name}") == storage.read(f"{store}/whole/{name}")


@pytest.mark.usefixtures("local_ray")
def test_what_could_not_be_read_is_read_again_when_told_and_not_before(listed, store) -> None:
    run(listed, f"{store}/out")
    before = packed(f"{store}/out")
    storage.put(f"{store}/objects/gone.jpg", b"back")
    run(listed, f"{store}/out")
    assert packed(f"{store}/out") == before
    target = Target(output=f"{store}/out", format="tar", samples_per_shard=5)
    with pytest.raises(ValueError, match="the folder is for something else"):
        collect.forget_unread(UriList(uri=listed, limit=7), target, dedup=False)
    assert collect.forget_unread(UriList(uri=listed), target, dedup=False) == 1
    run(listed, f"{store}/out")
    assert packed(f"{store}/out") == sorted([*before, ("k/gone", b"back", 11)], key=lambda row: row[2])


@pytest.mark.usefixtures("local_ray")
def test_of_equal_images_one_is_packed_also_when_its_first_copy_can_be_read_only_later(store) -> None:
    names = ["a", "late", "b", "c", "b2", "d", "late2", "e"]
    images = {name: name.rstrip("2").encode() for name in names}
    for name in names:
        storage.put(f"{store}/o/{name}.jpg", images[name])
    storage.remove([f"{store}/o/late.jpg"])
    where = Target(output=f"{store}/out", format="tar", samples_per_shard=2)
    rows = [(f"{store}/o/{name}.jpg", name) for name in names]
    listed = put_csv(f"{store}/list.csv", [("uri", "key"), *rows])
    run(listed, where.output, samples_per_shard=2, dedup=True)
    assert [key for key, _, _ in packed(where.output)] == ["a", "b", "c", "d", "late2", "e"]
    storage.put(f"{store}/o/late.jpg", images["late"])
    assert collect.forget_unread(UriList(uri=listed), where, dedup=True) == 4
    run(listed, where.output, samples_per_shard=2, dedup=True)
    assert [key for key, _, _ in packed(where.output)] == ["a", "late", "b", "c", "d", "e"]


@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_was_not_noted_gives_way_to_what_can_be_read_now(listed, store) -> None:
    run(listed, f"{store}/out")
    storage.remove([f"{store}/out/{name}" for name in ("manifest.json", "notes/000000.note")])
    storage.remove([f"{store}/objects/{sorted(PICTURES)[0]}.jpg"])
    run(listed, f"{store}/out")
    assert packed(f"{store}/out") == expected()[1:]


@pytest.mark.usefixtures("local_ray")
def test_keys_that_no_sample_can_have_are_left_out_and_said(store, tmp_path) -> None:
    storage.put(f"{store}/a.jpg", b"x")
    rows = [(f"{store}/a.jpg", key) for key in ("a", "a", "b/._c", "b/", "b.c/d")]
    done = run(put_csv(f"{store}/list.csv", [("uri", "key"), *rows]), f"{store}/out", samples_per_shard=10)
    assert [key for key, _, _ in packed(f"{store}/out")] == ["a", "b.c/d"]
    reasons = [reason for _, reason in done[0].unread]
    assert ["earlier" in reasons[0], "hidden" in reasons[1], "hidden" in reasons[2]] == [True] * 3


@pytest.mark.usefixtures("local_ray")
def test_relative_paths_are_those_of_the_command_not_of_the_workers(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.put("a/b.jpg", b"x")
    put_csv("list.csv", [("uri",), ("a/b.jpg",)])
    assert pack_shards.main(["--keys", "list.csv", "--output", "out"]) == 0
    assert [(key, image) for key, image, _ in packed("out")] == [("a/b", b"x")]


@pytest.mark.usefixtures("local_ray")
def test_a_folder_with_something_else_in_it_is_left_alone(listed, store) -> None:
    storage.put(f"{store}/out/other.tar", b"x")
    with pytest.raises(ValueError, match=r"other.tar is there already and belongs to something else"):
        run(listed, f"{store}/out")
    assert len(list(storage.list_objects(f"{store}/out"))) == 1


@pytest.mark.usefixtures("local_ray")
def test_another_list_or_other_options_in_the_folder_are_refused(listed, store) -> None:
    run(listed, f"{store}/out", limit=5)
    for more in ({"limit": 6}, {"limit": 5, "dedup": True}, {"limit": 5, "samples_per_shard": 4}):
        with pytest.raises(ValueError, match="says that the folder is for something else; choose a new folder"):
            run(listed, f"{store}/out", **more)


@pytest.mark.usefixtures("local_ray")
def test_a_list_of_which_nothing_can_be_read_is_an_error(tmp_path) -> None:
    listed = put_csv(f"{tmp_path}/list.csv", [("uri",), (f"{tmp_path}/gone.jpg",)])
    with pytest.raises(
        ValueError,
        match=r"1 of the 1 objects that it names cannot be read; .*; the first: .*gone.jpg: FileNotFoundError",
    ):
        run(listed, f"{tmp_path}/out")


@pytest.mark.usefixtures("local_ray")
def test_the_job_says_what_it_packed_and_writes_what_it_could_not_read(listed, store, tmp_path, capsys) -> None:
    options = ["--keys", listed, "--output", f"{store}/out", "--samples-per-shard", "5", "--dedup"]
    assert pack_shards.main([*options, "--dry-run"]) == 0
    line = "list: commas: column uri, column key, column label (numbers), 21 rows\n"
    assert capsys.readouterr().out == f"{line}21 objects to be read and packed in 5 shards; nothing was written\n"
    assert pack_shards.main([*options, "--results-file", f"{tmp_path}/results.json"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(line)
    assert "18 samples, 18 labelled, in 5 shards packed" in said and "1 duplicates left out" in said
    assert "2 could not be read" in said
    assert storage.read(f"{store}/out/unread.csv").decode().splitlines()[1].endswith("hollow.jpg,empty")
    assert json.loads((tmp_path / "results.json").read_text())["samples"] == 18


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give either --images, a path on this machine, or --keys, a list of objects"),
        (["--images", "x", "--keys", "y"], "give either --images"),
        (["--images", "x", "--dedup"], "--dedup goes with --keys"),
        (["--keys", "x", "--labels", "y"], "--labels y: with --keys, labels are a column of the list"),
        (["--keys", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said, tmp_path, capsys) -> None:
    assert pack_shards.main([*options, "--output", f"{tmp_path}/out"]) == 2
    assert said in capsys.readouterr().err
