"""train_student from its command line: its errors, its plan, and the whole way from a pool to the leaderboard."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs import evaluate, leaderboard, materialize, pack_shards, pseudo_label, select_topk, train_student
from pipelines import storage
from pipelines.evaluation import tracking
from pipelines.models import members
from pipelines.training import checkpoint
from tests.support.small_trainings import CLASSES, picture, put

SMALL = ["--size", "12", "--pre.batch", "16", "--pre.micro-batch", "8", "--pre.flip", "0", "--pre.lr-per-256", "1.6"]
SHORT = [*SMALL, "--pre.epochs", "8", "--pre.drops", "3"]


@pytest.fixture
def packed(tmp_path: Path) -> str:
    """48 labelled pictures in 4 shards with a manifest."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = [(f"{i:02d}", i % CLASSES) for i in range(48)]
    for key, label in rows:
        (folder / f"{key}.png").write_bytes(picture(label, int(key)))
    (tmp_path / "labels.csv").write_text("".join(["key,label\n", *(f"{key},{label}\n" for key, label in rows)]))
    target = ["--output", str(tmp_path / "shards"), "--samples-per-shard", "12"]
    assert pack_shards.main(["--images", str(folder), "--labels", str(tmp_path / "labels.csv"), *target]) == 0
    return str(tmp_path / "shards")


def train(data: str, *options: str, model: str = "cifar_resnet8", store: str = "none") -> int:
    own = ["--model", model, "--pretrain", data, "--val", data, "--store", store]
    return train_student.main([*own, *options])


def test_a_dry_run_says_stages_steps_and_classes_and_writes_nothing(packed: str, tmp_path: Path, capsys) -> None:
    assert train(packed, "--finetune", packed, *SHORT, "--dry-run", store=str(tmp_path / "store")) == 0
    said = capsys.readouterr()
    rows = [line.split()[:6] for line in said.out.splitlines()]
    assert ["pretrain", "shards", "48", "384", "24", "16"] in rows
    assert ["finetune", "shards", "48", "1,536", "1", "1,536"] in rows
    assert "cifar_resnet8, 4 classes" in said.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--pre.flip", "2"], "--pre.flip 2.0: expected a share from 0 to 1"),
        (["--fine.epochs", "3", "--fine.images", "5"], "--fine.images 5, --fine.epochs 3.0: give one of them"),
        (["--workers", "2", "--pre.batch", "16"], "--pre.batch 16: 2 workers in micro-batches of 16 do not divide it"),
        (["--workers", "0"], "--workers 0: expected a positive number"),
        (["--classes", "3"], "labels from 0 to 3, expected 0 to 2"),
        (["--model", "resnset50d"], "did you mean resnest50d"),
        (["--device", "tpu"], "--device tpu: choose from auto, cpu, cuda"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_value_and_the_choices(
    packed: str, tmp_path: Path, capsys, options: list[str], told: str
) -> None:
    assert train(packed, *options, "--dry-run", store=str(tmp_path / "store")) == 2
    assert told in capsys.readouterr().err


def test_shards_without_a_manifest_need_classes(tmp_path: Path, capsys) -> None:
    data = put(str(tmp_path / "data")).source
    assert train(data, "--dry-run") == 2
    assert "--classes is needed" in capsys.readouterr().err
    assert train(data, "--classes", "4", "--pre.epochs", "8", "--dry-run") == 0
    assert ["pretrain", "data", "?", "?", "?", "1,536"] in [
        line.split()[:6] for line in capsys.readouterr().out.splitlines()
    ]


def test_a_recipe_may_stand_in_a_file_and_the_command_line_overrides_it(packed: str, tmp_path: Path, capsys) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("size: 12\npre:\n  epochs: 8\n  batch: 16\n  crop-scale: [0.5, 1.0]\n  drops: 3\n")
    assert train(packed, "--config", str(recipe), "--pre.batch", "32", "--dry-run") == 0
    assert "48 384 12 32" in " ".join(capsys.readouterr().out.split())
    recipe.write_text("pre:\n  bacth: 16\n")
    assert train(packed, "--config", str(recipe), "--dry-run") == 2
    assert "unknown option pre.'bacth'; did you mean 'batch'?" in capsys.readouterr().err
    recipe.write_text("pre: 16\n")
    assert train(packed, "--config", str(recipe), "--dry-run") == 2
    assert "pre takes a map of options" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_the_loop_from_a_pool_to_the_leaderboard(packed: str, tmp_path: Path, local_ray: None, capsys) -> None:
    store, selection, chosen = (str(tmp_path / name) for name in ("store", "selection", "chosen"))
    assert train(packed, *SHORT, "--name", "teacher", model="cifar_resnet20", store=store) == 0
    assert train(packed, *SHORT, "--name", "baseline", store=store) == 0
    teacher = next(card.name for card in members.cards(store) if card.name.startswith("teacher"))
    pool = ["--models", teacher, "--data", packed, "--store", store, "--classes-per-image", "1"]
    assert pseudo_label.main(pool) == 0
    assert select_topk.main([*pool, "--k", "8", "--output", selection]) == 0
    assert materialize.main(["--selection", selection, "--output", chosen, "--samples-per-shard", "8"]) == 0
    own = ["--model", "cifar_resnet8", "--name", "student", "--pretrain", chosen, "--finetune", packed, "--val", packed]
    fine = ["--fine.batch", "16", "--fine.micro-batch", "8", "--fine.epochs", "2", "--fine.lr-per-256", "0.05"]
    assert train_student.main([*own, "--store", store, *SHORT, *fine]) == 0
    student = next(card for card in members.cards(store) if card.name.startswith("student"))

    results = tmp_path / "results.json"
    judged = ["--models", "teacher-*,baseline-*,student-*", "--data", packed, "--store", store]
    assert evaluate.main([*judged, "--results-file", str(results)]) == 0
    measured = {row["model"]: row["top1"] for row in json.loads(results.read_bytes())["results"]}
    for card in members.cards(store):  # what a training's validation said is what an evaluation says
        assert measured[card.name] == pytest.approx(card.claims[0].value, abs=0.0006)

    capsys.readouterr()
    assert leaderboard.main(["--store", store, "--output", str(tmp_path / "board")]) == 0
    assert "students (B) against teachers and baselines (A)" in capsys.readouterr().out
    compared = json.loads((tmp_path / "board" / "students.json").read_bytes())["pairs"]
    assert [(pair["a"]["model"].split("-")[0], pair["b"]["model"]) for pair in compared] == [
        ("baseline", student.name),
        ("teacher", student.name),
    ]
    assert f"{student.name} against {teacher}" in (tmp_path / "board" / "leaderboard.html").read_text()

    client = MlflowClient(tracking.default_uri(store))
    (version,) = client.search_model_versions("name = 'student'")
    lineage = {name: client.get_run(version.tags[f"menagerie.{name}_run"]) for name in ("teacher", "selection")}
    assert lineage["teacher"].data.params["model"] == teacher
    assert lineage["selection"].data.params["teacher"].startswith(teacher)
    run = client.get_run(str(version.run_id))
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "pretrain/loss")]
    assert steps == sorted(set(steps))
    assert run.data.metrics["finetune/top1"] == run.data.metrics["top1"]

    before = {entry.uri: entry.etag for entry in storage.list_objects(f"{store}/weights")}
    assert train_student.main([*own, "--store", store, *SHORT, *fine]) == 0  # finished: published again, no more
    assert {entry.uri: entry.etag for entry in storage.list_objects(f"{store}/weights")} == before
    assert len(checkpoint.listed(f"{store}/training/{student.name}")) <= 3
