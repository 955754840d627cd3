"""Covers jobs.evaluate on data that is broken, unlabelled or wrong: rows with reasons, messages and exit codes."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.console.cli import UNFINISHED
from pipelines.walk import filling
from tests.support.evaluations import run


def picture(mode: str, form: str, size=(40, 30), **options) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.usefixtures("local_ray")
def test_of_bad_samples_every_one_is_a_row_and_those_that_decode_are_scored(store_folder, tmp_path, write_tar) -> None:
    cmyk, jpeg = picture("CMYK", "JPEG"), picture("RGB", "JPEG", (64, 48))
    deep = BytesIO()
    Image.fromarray(np.full((30, 40), 40000, np.uint16)).save(deep, "PNG")
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    animated = BytesIO()
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:])
    huge = picture("1", "PNG", (30000, 30000))
    good = {"cmyk.jpg": cmyk, "gray.jpg": picture("L", "JPEG"), "deep.png": deep.getvalue()}
    good |= {
        "palette.png": picture("P", "PNG"),
        "alpha.png": picture("RGBA", "PNG"),
        "dot.png": picture("RGB", "PNG", (1, 1)),
    }
    good |= {"moving.webp": animated.getvalue(), "twice.jpg": jpeg}
    bad = {"zero.jpg": b"", "cut.jpg": jpeg[: len(jpeg) // 2], "text.jpg": b"hello", "huge.png": huge}
    members = []
    for name, content in (good | bad).items():
        members += [(name, content), (f"{Path(name).stem}.cls", b"3")]
    members += [("unlabelled.jpg", jpeg), ("between.jpg", jpeg), ("between.cls", b"3")]
    members += [("twice.jpg", jpeg), ("twice.cls", b"3")]
    write_tar(tmp_path / "bad" / "00000.tar", members)
    results = tmp_path / "results.json"
    assert run(tmp_path / "bad", store_folder, "--results-file", str(results)) == 0
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["errors"]) == (len(good) + len(bad) + 3, 6)
    assert row["error_reasons"] == {
        "broken image": 1,
        "duplicate key": 1,
        "empty file": 1,
        "missing label": 1,
        "not an image": 1,
        "too many pixels": 1,
    }
    (errors,) = (store_folder / "reports").rglob("errors.parquet")
    keys = [Path(name).stem for name in bad] + ["unlabelled", "twice"]
    assert sorted(pq.read_table(errors)["key"].to_pylist()) == sorted(keys)


@pytest.mark.usefixtures("local_ray")
def test_a_broken_shard_is_named_and_the_rest_is_incomplete(data, store_folder, tmp_path, capsys) -> None:
    """A broken shard is named, the rest is reported as incomplete, and the exit code is 3."""
    whole = (data / "00001.tar").read_bytes()
    (data / "00001.tar").write_bytes(whole[: len(whole) // 2])
    results = tmp_path / "results.json"
    assert run(data, store_folder, "--results-file", str(results), "--tracking-uri", "none") == UNFINISHED
    said = capsys.readouterr().err
    assert "00001.tar: ReadError" in said.replace("\n", "")
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["complete"], row["committed"], row["shards"]) == (4, False, 1, 2)
    (data / "00001.tar").write_bytes(whole)
    assert run(data, store_folder, "--results-file", str(results), "--tracking-uri", "none") == 0
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["complete"]) == (8, True)


@pytest.mark.usefixtures("local_ray")
def test_images_without_labels_are_predicted_and_not_scored(store_folder, tmp_path, write_tar, jpegs, capsys) -> None:
    write_tar(tmp_path / "pool" / "00000.tar", [(f"{i}.jpg", jpegs[i]) for i in range(3)])
    results = tmp_path / "results.json"
    assert run(tmp_path / "pool", store_folder, "--results-file", str(results), "--tracking-uri", "none") == 0
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["labelled"], row["top1"]) == (3, 0, None)
    said = capsys.readouterr()
    assert "no sample has a label" in said.err
    assert "errors" not in said.out


def test_data_that_cannot_be_used_is_one_line_each_before_ray_starts(
    tmp_path, store_folder, write_tar, jpegs, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(filling, "fill", lambda *_: pytest.fail("Ray was started"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "00000.tar").write_bytes(b"this is no tar" * 1000)
    for name, label in (("beyond", b"1000"), ("negative", b"-2")):
        write_tar(tmp_path / name / "00000.tar", [("a.jpg", jpegs[0]), ("a.cls", label)])
    write_tar(tmp_path / "several" / "00000.tar", [("a.jpg", jpegs[0]), ("a.png", jpegs[0]), ("a.cls", b"1")])
    write_tar(tmp_path / "bare" / "00000.tar", [("a.json", b"{}"), ("b.json", b"{}")])
    write_tar(tmp_path / "apart" / "00000.tar", [("a.jpg", jpegs[0]), ("b.jpg", jpegs[0]), ("a.cls", b"1")])
    expected = {
        "several": "the first, 'a': several pictures: jpg, png; --image-member says which is meant",
        "bare": "no sample in 1 shard; the members are no pictures: json",
        "apart": "members of sample 'a' are not adjacent (rows 0 and 2); pack them by name: tar --sort=name",
        "empty": "no shard",
        "nowhere": "no such folder",
        "text": "no shard can be read",
        "beyond": "labels from 1000 to 1000, expected 0 to 999; do they count from 1?",
        "negative": "labels from -2 to -2, expected 0 to 999",
    }
    for name, message in expected.items():
        assert run(tmp_path / name, store_folder) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ") and message in line
    assert not (store_folder / "cells").exists()


@pytest.mark.usefixtures("local_ray")
def test_wrong_labels_deep_in_the_data_are_errors_in_the_report_and_then_one_line(
    tmp_path, store_folder, write_tar, jpegs, capsys
) -> None:
    members = []
    for i in range(80):  # the first and the last of which are looked at before anything is computed
        members += [(f"{i}.jpg", jpegs[i % 40]), (f"{i}.cls", b"5000" if 40 <= i < 45 else b"5")]
    write_tar(tmp_path / "late" / "00000.tar", members)
    results = tmp_path / "results.json"
    assert run(tmp_path / "late", store_folder, "--results-file", str(results), "--tracking-uri", "none") == 2
    *said, last = capsys.readouterr().err.splitlines()
    assert "5 labels outside 0 to 999" in last
    shard = tmp_path / "late" / "00000.tar"
    assert f"first bad row  {shard}, row 40, key '40': label out of range (label 5000)" in said
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["errors"], row["error_reasons"]) == (80, 5, {"label out of range": 5})
