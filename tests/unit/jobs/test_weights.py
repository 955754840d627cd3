"""Covers jobs.weights from its command line: what it shows and writes, which options are errors."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import zoo
from jobs import weights

MODEL = "efficientnet_lite0"


def run(*arguments: str) -> int:
    return weights.main([*arguments])


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], dict[str, dict]]:
    """What the results file says, by model."""
    return lambda: {row["model"]: row for row in json.loads((tmp_path / "rows.json").read_bytes())["weights"]}


def test_the_list_has_every_model_with_its_file_digest_and_whereabouts(new_machine, tmp_path: Path, rows, capsys):
    new_machine()
    assert run("list", "--results-file", f"{tmp_path}/rows.json") == 0
    found = rows()
    assert tuple(found) == zoo.names()
    assert (found[MODEL]["where"], found[MODEL]["size"]) == ("installed", 18_826_032)
    assert found["resnest200e"]["file"] == "resnest200-75117900.pth"
    assert {found[name]["where"] for name in found if name != MODEL} == {"absent", "not locked"}
    assert (found["sknet50"]["file"], found["sknet50"]["where"]) == ("at drive.google.com", "not locked")
    shown = capsys.readouterr().out
    assert all(name in shown for name in found)


def test_a_model_is_mirrored_listed_verified_and_its_damage_found(
    store: str, new_machine, tmp_path: Path, rows, capsys
):
    new_machine()
    results = ("--results-file", f"{tmp_path}/rows.json")
    assert run("verify", "--models", MODEL, "--store", store) == 3
    assert "failed   efficientnet_lite0: " in capsys.readouterr().err
    assert run("mirror", "--models", MODEL, "--store", store, *results) == 0
    assert rows()[MODEL]["sha256"] == zoo.card(MODEL).weights.sha256  # pyright: ignore
    for action in ("list", "verify"):
        assert run(action, "--models", MODEL, "--store", store, *results) == 0
        assert rows()[MODEL]["where"] == "store"
    from pipelines import storage

    uri = f"{store}/weights/{rows()[MODEL]['file']}"
    storage.replace(uri, storage.read(uri)[:-1])
    assert run("verify", "--models", MODEL, "--store", store, *results) == 3
    assert "expected SHA-256 57934424" in rows()[MODEL]["failure"]


def test_a_checkpoint_that_fails_is_not_shown_with_the_digest_of_the_card(tmp_path: Path, rows) -> None:
    (tmp_path / "empty.pth").touch()
    arguments = ("--models", MODEL, "--checkpoint", f"{tmp_path}/empty.pth", "--results-file", f"{tmp_path}/rows.json")
    assert run("verify", *arguments) == 3
    assert (rows()[MODEL]["file"], rows()[MODEL]["sha256"], rows()[MODEL]["size"]) == ("empty.pth", None, None)


def test_a_models_fault_is_its_own_and_the_others_go_on(store: str, new_machine, tmp_path: Path, rows, capsys):
    new_machine()
    cards = tmp_path / "cards.yaml"
    cards.write_text(
        "Models:\n- Name: gone\n  Metadata: {ID: resnest14d, Image Size: 224, Crop Pct: 0.9, Interpolation: bicubic}\n"
        "  Weights: http://127.0.0.1:9/gone-01234567.pth\n"
    )
    results = ("--results-file", f"{tmp_path}/rows.json")
    assert run("mirror", "--models", f"gone,{MODEL}", "--cards", str(cards), "--store", store, *results) == 3
    assert rows()[MODEL]["failure"] is None
    assert "gone-01234567.pth is not available: " in rows()["gone"]["failure"]
    assert "http://127.0.0.1:9/gone-01234567.pth: ConnectionError" in rows()["gone"]["failure"]
    assert "1 model with valid weights, 1 without" in capsys.readouterr().err


def test_a_users_model_is_fetched_into_the_cache(web, new_machine, tmp_path: Path, rows):
    import hashlib
    import io

    folder = new_machine()
    buffer = io.BytesIO()
    torch.save(zoo.create(MODEL, num_classes=3).state_dict(), buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    url = web.put(f"/mine-{digest[:8]}.pth", buffer.getvalue())
    cards = tmp_path / "cards.yaml"
    cards.write_text(
        "Models:\n- Name: mine\n  Metadata:\n    ID: efficientnet_lite0\n    Image Size: 224\n    Crop Pct: 0.9\n"
        f"    Interpolation: bicubic\n    Classes: 3\n  Weights: {url}\n"
    )
    arguments = ("--models", "mine", "--cards", str(cards), "--results-file", f"{tmp_path}/rows.json")
    assert run("verify", *arguments) == 3
    assert run("fetch", *arguments) == 0
    assert rows()["mine"]["where"] == "cache"
    assert (folder / f"mine-{digest[:8]}.pth").is_file()
    assert run("verify", *arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("mirror",), "mirror: needs --store"),
        (("list", "--models", "resnset50d"), "did you mean resnest50d"),
        (("fetch", "--checkpoint", "x.pth"), "--checkpoint x.pth: goes with one model"),
        (("verify", "--models", MODEL, "--checkpoint", "x.pth"), "--checkpoint x.pth: no such file"),
        (("verify", "--models", MODEL, "--weights-key", "ema"), "--weights-key ema: goes with --checkpoint"),
        (("list", "--cards", "absent.yaml"), "absent.yaml: no such file"),
        (("list", "--results-file", "/dev/null/x.json"), "/dev/null/x.json: cannot be written"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments: tuple[str, ...], told: str, capsys):
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert told in said
    assert said.count("\n") == 1


def test_options_may_stand_in_a_yaml_file_and_the_action_on_the_command_line(tmp_path: Path, capsys):
    (tmp_path / "mine.yaml").write_text(
        "Models:\n- Name: mine\n  Metadata: {ID: resnest14d, Image Size: 224, Crop Pct: 0.9, Interpolation: bicubic}\n"
    )
    job = tmp_path / "job.yaml"
    job.write_text(f"models: {MODEL},mine\ncards: [{tmp_path}/mine.yaml]\n")
    for arguments in (("list", "--config", str(job)), ("--config", str(job), "list")):
        assert run(*arguments) == 0
        assert "none published" in capsys.readouterr().out
    job.write_text("action: list\n")
    assert run("list", "--config", str(job)) == 2
    assert "action is set on the command line, not in a file" in capsys.readouterr().err
