"""Covers jobs.pack_shards from its command line: what it writes and shows, which input is an error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import pack_shards


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(b"image %d" % number)
    (tmp_path / "labels.csv").write_text("key,label\n" + "".join(f"{number},{number * 10}\n" for number in range(5)))
    return folder


@pytest.fixture
def command(photos: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(photos.parent)
    return ["--images", "photos", "--labels", "labels.csv", "--output", "out", "--samples-per-shard", "2"]


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_a_folder_is_packed_and_the_results_say_how(command: list[str], form: str) -> None:
    assert pack_shards.main([*command, "--format", form, "--results-file", "results.json"]) == 0
    names = sorted(path.name for path in Path("out").glob("[!.]*"))
    assert names == [f"0000{number}.{form}" for number in range(3)] + ["manifest.json"]
    size = sum(path.stat().st_size for path in Path("out").glob(f"*.{form}"))
    assert json.loads(Path("results.json").read_bytes()) == {
        "samples": 5,
        "labelled": 5,
        "shards": 3,
        "bytes": size,
        "output": "out",
    }


def test_a_dry_run_says_what_would_be_packed_and_writes_nothing(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack_shards.main([*command, "--dry-run"]) == 0
    understood = "labels: labels.csv: column key, column label (numbers), 5 rows"
    counts = "5 samples, 5 labelled, in 3 shards"
    assert capsys.readouterr().out.splitlines() == [
        understood,
        f"{counts} to be packed as tar in out; nothing was written",
    ]
    assert not Path("out").exists()
    assert pack_shards.main(command) == 0
    assert capsys.readouterr().out.splitlines() == [understood, f"{counts} packed as tar in out"]


def test_the_labels_of_class_names_are_in_the_manifest(command: list[str]) -> None:
    for name in ("dog", "cat"):
        Path("pets", name).mkdir(parents=True)
        Path("pets", name, "1.jpg").write_bytes(name.encode())
    assert pack_shards.main(["--images", "pets", "--classes", "sorted", "--output", "out"]) == 0
    assert json.loads(Path("out/manifest.json").read_bytes())["classes"] == {"cat": 0, "dog": 1}
    assert pack_shards.main([*command[:4], "--output", "photos.out"]) == 0
    assert "classes" not in json.loads(Path("photos.out/manifest.json").read_bytes())


def test_limit_packs_the_first_images(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert pack_shards.main([*command, "--limit", "3"]) == 0
    assert "3 samples, 3 labelled, in 2 shards packed" in capsys.readouterr().out
    assert json.loads(Path("out/manifest.json").read_bytes())["labels"] == {"min": 0, "max": 20, "count": 3}


def test_options_come_from_a_file_too(command: list[str]) -> None:
    Path("pack.yaml").write_text("images: photos\noutput: out\nlabels: labels.csv\nsamples_per_shard: 5\n")
    assert pack_shards.main(["--config", "pack.yaml"]) == 0
    assert Path("out/00000.tar").exists()
    assert not Path("out/00001.tar").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--images": "nowhere"}, "--images nowhere: no such folder or archive"),
        ({"--images": "s3://bucket/photos"}, "images are packed from a local path"),
        ({"--images": "empty"}, "no image (jpg, jpeg, jpe, jfif, png, webp, gif, bmp, dib, tif, tiff, avif)"),
        ({"--images": "text.tar", "--labels": None}, "not a tar, or damaged"),
        ({"--images": "val.tar", "--labels": None}, "give --devkit"),
        ({"--images": "val.tar", "--labels": None, "--devkit": "nowhere.tar.gz"}, "nowhere.tar.gz"),
        ({"--images": "val.tar", "--labels": None, "--devkit": "text.tar"}, "text.tar: not a tar"),
        ({"--devkit": "text.tar"}, "--devkit goes with ILSVRC2012_img_val.tar"),
        ({"--labels": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"--labels": "text.tar"}, "text.tar line 1: cannot tell the columns of 'text'"),
        ({"--labels": None, "--classes": "nowhere.txt"}, "nowhere.txt: no such file"),
        ({"--labels": None, "--classes": "sorted"}, "--classes names folders, and the images lie in none"),
        ({"--classes": "none"}, "--classes none: leaves images without labels"),
        ({"--images": "val.tar", "--devkit": "text.tar"}, "--devkit text.tar: gives the labels"),
        ({"--samples-per-shard": "0"}, "--samples-per-shard 0: expected a positive number"),
        ({"--limit": "-1"}, "--limit -1: expected a positive number"),
        ({"--output": "packed"}, "choose a new folder"),
        ({"--output": "packed", "--dry-run": ""}, "choose a new folder"),
        ({"--output": "text.tar"}, "text.tar"),
        ({"--output": "gs://bucket"}, "unknown scheme 'gs'"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    command: list[str],
    write_tar: Callable[..., bytes],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str | None],
    message: str,
) -> None:
    Path("empty").mkdir()
    Path("text.tar").write_bytes(b"text")
    write_tar(Path("val.tar"), [("ILSVRC2012_val_00000001.JPEG", b"image")])
    write_tar(Path("packed/other.tar"), [])
    options = dict(zip(command[::2], command[1::2], strict=True)) | change
    flags = [part for name, value in options.items() if value is not None for part in (name, value) if part]
    assert pack_shards.main(flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
