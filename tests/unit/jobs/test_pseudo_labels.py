"""Covers jobs.pseudo_label, jobs.select_topk and jobs.materialize: from a pool to shards to train on."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from jobs import evaluate, leaderboard, materialize, pseudo_label, select_topk
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.evaluation import tracking
from pipelines.selection.files import read_selection
from tests.support import faulty_runs, random_models

pytestmark = pytest.mark.usefixtures("local_ray")
SHARDS = 3


@pytest.fixture(scope="module")
def work(tmp_path_factory, jpegs) -> Path:
    """A pool whose cells are committed."""
    place = tmp_path_factory.mktemp("work")
    faulty_runs.put_shards(f"{place}/pool", jpegs, SHARDS)
    assert pseudo_label.main(teacher(place)) == 0
    return place


def teacher(work: Path, *more: str) -> list[str]:
    options = ["--models", faulty_runs.MODEL, "--data", f"{work}/pool", "--store", f"{work}/out", "--batch-size", "5"]
    return [*options, *more]


def select(work: Path, output: Path, *more: str) -> int:
    return select_topk.main([*teacher(work), "--output", str(output), "--tracking-uri", "none", *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_cells_are_those_of_an_evaluation(work, capsys) -> None:
    assert evaluate.main([*teacher(work), "--tracking-uri", "none", "--status"]) == 0
    assert "3 of 3 committed" in capsys.readouterr().err
    assert pseudo_label.main(teacher(work, "--verify")) == 0
    assert pseudo_label.main(teacher(work, "--classes-per-image", "3", "--dry-run")) == 0
    assert "0 cells committed, 3 to do" in capsys.readouterr().err


def test_from_a_pool_to_shards_with_the_source_images(work, tmp_path, capsys) -> None:
    assert select(work, tmp_path / "chosen", "--k", "2") == 0
    said = capsys.readouterr().out
    assert f"{SHARDS * faulty_runs.IMAGES} images in 3 of 3 cells: 0 could not be scored, 0 were excluded" in said
    assert "chosen for 1,000 classes" in said and "have a label were chosen for it" in said
    found = read_selection(f"{tmp_path}/chosen")
    assert found and (tmp_path / "chosen" / "scores.png").exists()
    assert [shard.rows for shard in found.pool.shards] == [faulty_runs.IMAGES] * SHARDS
    options = ["--selection", f"{tmp_path}/chosen", "--output", f"{tmp_path}/shards", "--samples-per-shard", "20"]
    options += ["--tracking-uri", "none"]
    assert materialize.main([*options, "--dry-run"]) == 0
    assert not (tmp_path / "shards").exists()
    assert materialize.main(options) == 0
    pool = [list(read.samples(shard)) for shard in found.pool.shards]
    expected = sorted((row["label"], pool[row["shard"]][row["index"]].image) for row in found.chosen.to_pylist())
    written = [sample for shard in find_dataset([f"{tmp_path}/shards"]).shards for sample in read.samples(shard)]
    assert sorted((sample.label, sample.image) for sample in written) == expected
    sheets = list((tmp_path / "shards" / "sheets").iterdir())
    assert len(sheets) == 10
    before = contents(tmp_path)
    assert select(work, tmp_path / "chosen", "--k", "2") == 0
    assert materialize.main(options) == 0
    assert contents(tmp_path) == before


def test_a_run_in_mlflow_has_the_numbers_the_plots_and_the_sheets(work, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    job = [*teacher(work), "--output", f"{tmp_path}/chosen", "--k", "1", "--tracking-uri", uri]
    assert select_topk.main(job) == 0
    options = ["--selection", f"{tmp_path}/chosen", "--output", f"{tmp_path}/shards", "--tracking-uri", uri]
    assert materialize.main(options) == 0
    (run,) = tracking.logged(uri).values()
    found = read_selection(f"{tmp_path}/chosen")
    assert found and run.metrics["chosen"] == len(found.chosen)
    client = MlflowClient(uri)
    (there,) = client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id])
    names = {entry.path for entry in client.list_artifacts(there.info.run_id)}
    assert {"classes.csv", "scores.png"} <= names and len([name for name in names if "sheet-" in name]) == 10
    assert run.params["k"] == "1" and run.params["teacher"].startswith(faulty_runs.MODEL)


def test_several_models_are_one_teacher(work, tmp_path, capsys) -> None:
    cards = random_models.put_cards(tmp_path, ["resnest14d"])
    models = f"{faulty_runs.MODEL},{random_models.PREFIX}resnest14d"
    options = ["--models", models, "--cards", str(cards), "--data", f"{work}/pool", "--store", f"{tmp_path}/out"]
    options += ["--batch-size", "5", "--limit", "5"]
    assert pseudo_label.main(options) == 0
    assert f"{faulty_runs.MODEL}+{random_models.PREFIX}resnest14d-" in capsys.readouterr().out
    assert select_topk.main([*options, "--k", "1", "--output", f"{tmp_path}/chosen", "--tracking-uri", "none"]) == 0
    about = json.loads((tmp_path / "chosen" / "selection.json").read_text())
    assert [member["model"] for member in about["teacher"]["members"]] == models.split(",")


def test_equal_images_count_once_and_excluded_ones_not_at_all(work, tmp_path) -> None:
    for name, more in (("all", ()), ("once", ("--dedup",)), ("none", ("--exclude-images", f"{work}/pool"))):
        assert select(work, tmp_path / name, "--k", "1000", *more) == 0
    (tmp_path / "keys").write_text("0\n7\n")
    assert select(work, tmp_path / "keys.out", "--k", "1000", "--exclude-keys", f"{tmp_path}/keys") == 0
    assert select(work, tmp_path / "first", "--k", "1000", "--exclude-shards", "0000[12]") == 0
    rows = {n: pq.read_table(tmp_path / n / "selection.parquet") for n in ("all", "once", "none", "keys.out", "first")}
    images = [list(read.samples(shard)) for shard in find_dataset([f"{work}/pool"]).shards]
    digests = {read.digest_of(sample.image) for shard in images for sample in shard if sample.image}
    assert len(rows["all"]) == 10 * SHARDS * faulty_runs.IMAGES
    assert len(rows["once"]) == 10 * len(digests)
    assert len(rows["none"]) == 0
    assert len(rows["keys.out"]) == 10 * (SHARDS * faulty_runs.IMAGES - 2)
    assert set(rows["first"]["shard"].to_pylist()) == {0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--k", "0"], "--k 0: expected a number of images per class"),
        (["--classes-per-image", "0"], "--classes-per-image 0: expected a positive number"),
        (["--precision", "fp32", "bf16"], "--precision fp32 bf16: this job takes one value"),
        (["--exclude-keys", "nowhere.txt"], "nowhere.txt"),
        (["--classes-per-image", "7"], "no cell of efficientnet_lite0-"),
        (["--exclude-images", "nowhere"], "nowhere"),
        (["--exclude-shards", "0000*", "val-*"], "--exclude-shards val-*: matches no shard's name; the first shard is"),
    ],
)
def test_what_cannot_be_selected_is_said_and_nothing_is_written(work, tmp_path, capsys, options, said) -> None:
    assert select(work, tmp_path / "chosen", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "chosen" / "selection.json").exists()


def test_another_selection_in_the_folder_stays(work, tmp_path, capsys) -> None:
    assert select(work, tmp_path / "chosen", "--k", "1") == 0
    before = contents(tmp_path)
    assert select(work, tmp_path / "chosen", "--k", "2") == 2
    assert (
        "another selection is there, by another rule or from other cells; choose a new folder"
        in capsys.readouterr().err
    )
    assert contents(tmp_path) == before


def test_relative_paths_are_those_of_the_command_not_of_the_workers(work, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(work)
    relative = ["--models", faulty_runs.MODEL, "--data", "pool", "--store", "out", "--batch-size", "5", "--output"]
    chosen = os.path.relpath(tmp_path / "chosen")
    assert select_topk.main([*relative, chosen, "--k", "1", "--tracking-uri", "none"]) == 0
    made = os.path.relpath(tmp_path / "shards")
    assert materialize.main(["--selection", chosen, "--output", made, "--tracking-uri", "none"]) == 0
    assert (tmp_path / "chosen" / "selection.json").exists() and list((tmp_path / "shards").glob("*.tar"))


@pytest.mark.parametrize("there", ["00000.tar", "notes/x", "mine.csv"])
def test_a_folder_with_something_else_in_it_is_left_alone(work, tmp_path, capsys, there) -> None:
    (tmp_path / "chosen" / there).parent.mkdir(parents=True)
    (tmp_path / "chosen" / there).write_bytes(b"x")
    assert select(work, tmp_path / "chosen", "--k", "1") == 2
    assert f"{there} is there, which is not part of a selection; choose a new folder" in capsys.readouterr().err
    assert list(contents(tmp_path / "chosen")) == [there]


def test_cells_of_few_classes_are_on_no_leaderboard(work, tmp_path) -> None:
    board = ["--store", f"{work}/out", "--tracking-uri", "none", "--output"]
    assert leaderboard.main([*board, f"{tmp_path}/before"]) == 0
    assert pseudo_label.main(teacher(work, "--classes-per-image", "1")) == 0
    assert leaderboard.main([*board, f"{tmp_path}/after"]) == 0
    assert contents(tmp_path / "after") == contents(tmp_path / "before")


def test_missing_cells_stop_a_selection_unless_it_may_be_incomplete(work, tmp_path, capsys, jpegs) -> None:
    faulty_runs.put_shards(f"{tmp_path}/pool", jpegs, SHARDS)
    assert pseudo_label.main(teacher(tmp_path, "--limit", "10")) == 0
    options = [*teacher(tmp_path), "--output", f"{tmp_path}/chosen", "--k", "1", "--tracking-uri", "none"]
    assert select_topk.main(options) == 2
    assert "1 of 3 cells of efficientnet_lite0-" in (said := capsys.readouterr().err) and "--incomplete" in said
    assert select_topk.main([*options, "--incomplete"]) == 0
    assert set(pq.read_table(tmp_path / "chosen" / "selection.parquet")["shard"].to_pylist()) == {0, 1}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--selection", "nowhere"], "no selection is there; `jobs.select_topk` makes one"),
        (["--samples-per-shard", "0"], "--samples-per-shard 0: expected a positive number"),
        (["--sheets", "5000"], "--sheets 5000: nothing was chosen for that class"),
    ],
)
def test_what_cannot_be_materialised_is_said(work, tmp_path, capsys, more, said) -> None:
    assert select(work, tmp_path / "chosen", "--k", "1") == 0
    options = {"--selection": f"{tmp_path}/chosen", "--output": f"{tmp_path}/shards", "--tracking-uri": "none"}
    options |= {more[0]: more[1]}
    assert materialize.main([part for pair in options.items() for part in pair]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()
