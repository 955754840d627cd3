"""Covers jobs.evaluate, in this process on the session's Ray: its files, messages and exit codes."""

import hashlib
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

import zoo
from jobs import evaluate
from jobs.console.cli import UNFINISHED
from pipelines.cells.cell import read_cell
from pipelines.walk import filling
from tests.support.faulty_runs import logged_below_sweeps

MODEL = "efficientnet_lite0"


@pytest.fixture
def data(tmp_path, write_tar, jpegs) -> Path:
    """Two shards of four labelled pictures each."""
    for shard in range(2):
        members = []
        for i in range(4 * shard, 4 * shard + 4):
            members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", b"%d" % i)]
        write_tar(tmp_path / "val" / f"{shard:05d}.tar", members)
    return tmp_path / "val"


@pytest.fixture
def store_folder(tmp_path) -> Path:
    return tmp_path / "out"


def run(data, store, *flags: str) -> int:
    return evaluate.main(["--models", MODEL, "--data", str(data), "--store", str(store), "--batch-size", "4", *flags])


def report(store: Path) -> dict[str, bytes]:
    """The report's files by path, and nothing else of the store."""
    return {str(p.relative_to(store)): p.read_bytes() for p in (store / "reports").rglob("*") if p.is_file()}


def picture(mode: str, form: str, size=(40, 30), **options) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.usefixtures("local_ray")
def test_a_run_leaves_results_a_report_and_one_mlflow_run_and_again_changes_nothing(
    data, store_folder, tmp_path, monkeypatch, capsys
) -> None:
    results = tmp_path / "results.json"
    assert run(data, store_folder, "--results-file", str(results)) == 0
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["model"], row["dataset"], row["n"], row["errors"], row["complete"]) == (MODEL, "val", 8, 0, True)
    assert row["top1"] == 100 * row["top1_count"] / 8
    before = report(store_folder)
    assert {Path(name).name for name in before} == {
        *("results.json", "results.csv", "summary.json"),
        *("per_class.parquet", "errors.parquet", "reliability.png"),
    }
    assert MODEL in capsys.readouterr().out

    def fail(*_: object) -> None:
        raise AssertionError("a finished evaluation was computed again")

    monkeypatch.setattr(filling, "fill", fail)
    assert run(data, store_folder) == 0
    assert report(store_folder) == before
    (logged,) = logged_below_sweeps(f"sqlite:///{store_folder}/mlflow.db")
    assert logged.data.metrics["top1_count"] == row["top1_count"]
    assert logged.data.params["weights_sha256"] == row["weights"]
    assert logged.data.params["dataset_digest"] in next(iter(before))
    assert {"torch_version", "git_commit", "preprocessing", "precision", "decoder", "card"} <= set(logged.data.params)


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
def test_a_broken_shard_is_named_the_rest_is_reported_as_incomplete_and_the_exit_code_is_3(
    data, store_folder, tmp_path, capsys
) -> None:
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
def test_a_limit_takes_the_first_images_and_is_never_taken_for_the_whole(data, store_folder, tmp_path) -> None:
    results = tmp_path / "results.json"
    flags = ("--results-file", str(results), "--tracking-uri", "none")
    for limit in (5, 8):
        assert run(data, store_folder, "--limit", str(limit), *flags) == 0
        assert json.loads(results.read_bytes())["results"][0]["n"] == limit
    assert len(list((store_folder / "reports").iterdir())) == 2


@pytest.mark.usefixtures("local_ray")
def test_without_mlflow_results_stay_and_are_logged_later(data, store_folder, capsys) -> None:
    assert run(data, store_folder, "--tracking-uri", "http://127.0.0.1:9") == 0
    assert "not logged to MLflow" in capsys.readouterr().err
    assert report(store_folder)
    assert run(data, store_folder, "--retrack") == 0
    (logged,) = logged_below_sweeps(f"sqlite:///{store_folder}/mlflow.db")
    assert logged.data.metrics["n"] == 8


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("name", ["any", "cells"])
def test_a_dataset_may_be_called_like_a_part_of_the_store(name, store_folder, tmp_path, write_tar, jpegs) -> None:
    write_tar(tmp_path / name / "00000.tar", [("a.jpg", jpegs[0]), ("a.cls", b"1")])
    for _ in range(2):
        assert run(tmp_path / name, store_folder, "--tracking-uri", "none") == 0


def test_a_dry_run_prints_the_plan_and_writes_nothing(data, store_folder, capsys) -> None:
    assert run(data, store_folder, "--dry-run") == 0
    said = capsys.readouterr().err
    assert "2 shards" in said
    assert "0 cells committed, 2 to do" in said
    assert not store_folder.exists()


def test_there_is_nothing_to_retrack_before_anything_is_committed(data, store_folder, capsys) -> None:
    assert run(data, store_folder, "--retrack") == 2
    assert "nothing is committed" in capsys.readouterr().err.splitlines()[-1]
    assert not store_folder.exists()


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


def test_an_unknown_model_is_one_line_with_near_matches(data, store_folder, capsys) -> None:
    arguments = ["--models", "efficientnet_lite", "--data", str(data), "--store", str(store_folder)]
    assert evaluate.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert MODEL in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "0"], "--batch-size 0: expected a positive number"),
        (["--limit", "-1"], "--limit -1: expected a positive number"),
        (["--device", "tpu"], "--device tpu: choose from auto, cpu, cuda"),
    ],
)
def test_an_impossible_option_is_one_line(flags, message, data, store_folder, capsys) -> None:
    assert run(data, store_folder, *flags) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"error: {message}")


def test_data_that_cannot_be_used_is_one_line_each_before_ray_starts(
    tmp_path, store_folder, write_tar, jpegs, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(filling, "fill", lambda *_: pytest.fail("Ray was started"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "00000.tar").write_bytes(b"this is no tar" * 1000)
    for name, label in (("beyond", b"1000"), ("negative", b"-1")):
        write_tar(tmp_path / name / "00000.tar", [("a.jpg", jpegs[0]), ("a.cls", label)])
    expected = {
        "empty": "no shard",
        "nowhere": "no such folder",
        "text": "no shard can be read",
        "beyond": "labels from 1000 to 1000, expected 0 to 999; do they count from 1?",
        "negative": "labels from -1 to -1, expected 0 to 999",
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
    for i in range(40):
        members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", b"5" if i < 35 else b"5000")]
    write_tar(tmp_path / "late" / "00000.tar", members)
    results = tmp_path / "results.json"
    assert run(tmp_path / "late", store_folder, "--results-file", str(results), "--tracking-uri", "none") == 2
    assert "5 labels outside 0 to 999" in capsys.readouterr().err.splitlines()[-1]
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["n"], row["errors"], row["error_reasons"]) == (40, 5, {"label out of range": 5})


def test_a_target_that_cannot_be_written_is_found_before_the_work(data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(filling, "fill", lambda *_: pytest.fail("Ray was started"))
    (tmp_path / "file").write_text("in the way")
    assert run(data, tmp_path / "file") == 2
    assert run(data, tmp_path / "out", "--results-file", str(tmp_path)) == 2
    assert [line[:6] for line in capsys.readouterr().err.splitlines()] == ["error:", "error:"]


@pytest.mark.usefixtures("local_ray")
def test_mlflow_shows_the_whole_after_a_part_though_the_part_scored_higher(
    data, store_folder, tmp_path, jpegs, write_tar
) -> None:
    """What was right in the first shard only: the score falls when the second comes, and MLflow must follow."""
    predicted = tmp_path / "predicted.json"
    run(data, tmp_path / "peek", "--results-file", str(predicted), "--tracking-uri", "none")
    (cell,) = (tmp_path / "peek" / "cells").rglob("00000-*.parquet")
    best = [row["classes"][0] for row in read_cell(str(cell), 10).to_pylist()]
    members = []
    for i, label in enumerate(best):
        members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", str(label).encode())]
    write_tar(data / "00000.tar", members)
    whole = (data / "00001.tar").read_bytes()
    (data / "00001.tar").write_bytes(whole[:2048])
    assert run(data, store_folder) == UNFINISHED
    (data / "00001.tar").write_bytes(whole)
    assert run(data, store_folder) == 0
    shown = [run.data.metrics for run in logged_below_sweeps(f"sqlite:///{store_folder}/mlflow.db")]
    assert {"top1": 50.0, "n": 8.0, "shards_committed": 2.0}.items() <= shown[0].items()


AWAY = "http://127.0.0.1:9/mine-01234567.pth"


def users_card(folder: Path, location: str | None = None, **metadata: object) -> str:
    """A model-index of one model, `mine`: the package's network and weights, if no others, with other test settings."""
    card = zoo.card(MODEL)
    assert card.weights is not None
    settings = {"ID": MODEL, "Image Size": 160, "Crop Pct": 0.9, "Interpolation": "bilinear", **metadata}
    entry = {"Name": "mine", "Metadata": settings, "Weights": location or card.weights.location}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"Models": [entry]}))
    return str(path)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_two_models_of_one_pass_have_the_cells_of_two_runs_bit_for_bit(data, store_folder, tmp_path) -> None:
    cards = users_card(tmp_path)
    both = ["--models", f"{MODEL},mine", "--cards", cards, "--data", str(data), "--batch-size", "4"]
    assert evaluate.main([*both, "--store", str(store_folder), "--tracking-uri", "none"]) == 0
    for model in (MODEL, "mine"):
        alone = ["--models", model, "--cards", cards, "--data", str(data), "--batch-size", "4"]
        assert evaluate.main([*alone, "--store", str(tmp_path / "alone"), "--tracking-uri", "none"]) == 0
    written = {
        store: {str(p.relative_to(store)): p.read_bytes() for p in (store / "cells").rglob("*.parquet")}
        for store in (store_folder, tmp_path / "alone")
    }
    assert len(written[store_folder]) == 4
    assert written[store_folder] == written[tmp_path / "alone"]


@pytest.mark.usefixtures("local_ray")
def test_a_checkpoint_in_place_of_the_cards_has_cells_of_its_own(data, store_folder, tmp_path, capsys) -> None:
    state = zoo.create(MODEL, weights="card").state_dict()
    checkpoint = tmp_path / "tuned.pth"
    torch.save({**state, "classifier.bias": state["classifier.bias"] + torch.eye(1000)[7] * 1000}, checkpoint)
    assert run(data, store_folder, "--checkpoint", str(checkpoint), "--tracking-uri", "none") == 0
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    (column,) = (store_folder / "cells" / "val").iterdir()
    assert column.name.startswith(f"{MODEL}-{digest[:8]}-")
    rows = [row for path in column.iterdir() for row in read_cell(str(path), 10).to_pylist()]
    assert {row["classes"][0] for row in rows} == {7}
    cards = users_card(tmp_path)
    refused = ["--models", f"{MODEL},mine", "--cards", cards, "--data", str(data), "--checkpoint", str(checkpoint)]
    assert evaluate.main(refused) == 2
    assert "goes with one model, not with 2 (efficientnet_lite0, mine)" in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_a_model_whose_weights_do_not_fit_loses_its_own_cells_alone(data, store_folder, tmp_path, capsys) -> None:
    misfit = tmp_path / "misfit.pth"
    torch.save(zoo.create(MODEL, num_classes=10).state_dict(), misfit)
    digest = hashlib.sha256(misfit.read_bytes()).hexdigest()
    path = Path(users_card(tmp_path, str(misfit), **{"SHA-256": digest}))
    # The misfit comes first by name, and its rows first in every chunk.
    path.write_text(path.read_text().replace("Name: mine", "Name: a_misfit"))
    command = ["--models", f"{MODEL},a_misfit", "--cards", str(path), "--data", str(data), "--batch-size", "4"]
    assert evaluate.main([*command, "--store", str(store_folder), "--tracking-uri", "none"]) == UNFINISHED
    said = capsys.readouterr().err
    assert "failed   a_misfit: " in said
    assert "misfit.pth does not fit EfficientNetLite: 2 mis-shaped: classifier.weight is (10, 1280)" in said
    assert "8 images in " in said
    assert run(data, store_folder, "--tracking-uri", "none") == 0
    assert "2 cells committed, 0 to do" in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_models_without_weights_lose_their_own_cells_alone(data, store_folder, tmp_path, new_machine, capsys) -> None:
    new_machine()
    cards, results = users_card(tmp_path, AWAY), tmp_path / "results.json"
    command = ["--models", f"{MODEL},mine,sknet50", "--cards", cards, "--data", str(data), "--batch-size", "4"]
    command += ["--store", str(store_folder), "--tracking-uri", "none", "--results-file", str(results)]
    assert evaluate.main([*command, "--dry-run"]) == UNFINISHED
    assert evaluate.main(command) == UNFINISHED
    said = capsys.readouterr().err
    assert "failed   mine: mine-01234567.pth is not available: " in said
    assert "failed   sknet50: no SHA-256 of its weights is published" in said
    (row,) = json.loads(results.read_bytes())["results"]
    assert (row["model"], row["n"], row["complete"]) == (MODEL, 8, True)


def test_models_without_weights_are_named_before_ray_starts(data, store_folder, tmp_path, new_machine, capsys) -> None:
    new_machine()
    command = [
        "--models",
        "mine",
        "--cards",
        users_card(tmp_path, AWAY),
        "--data",
        str(data),
        "--store",
        str(store_folder),
    ]
    assert evaluate.main(command) == 2
    said = capsys.readouterr().err
    assert "error: mine: mine-01234567.pth is not available: " in said
    assert f"; {AWAY}: ConnectionError" in said
    assert not (store_folder / "cells").exists()
