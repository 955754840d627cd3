"""Covers jobs.quickstart: its photographs and labels, a run from end to end, folders that cannot be used."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.quickstart import __main__ as quickstart
from jobs.quickstart import photographs
from tests.support.paths import ROOT
from zoo import imagenet

PHOTOS = photographs.photos()


def start(output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.quickstart", "--part", "photographs", "--output", str(output)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)


def files_below(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart") / "out"


@pytest.fixture(scope="module")
def first(output: Path) -> subprocess.CompletedProcess[str]:
    return start(output)


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.file.stem)
def test_a_photograph_is_there_its_class_is_one_of_imagenets_and_a_reason_is_given(photo: photographs.Photo) -> None:
    assert photo.file.is_file()
    assert imagenet.class_names()[photo.label] == photo.class_name
    assert photo.why


def test_no_two_photographs_would_have_the_same_key() -> None:
    assert len({photo.file.stem for photo in PHOTOS}) == len(PHOTOS)


def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    absent = photographs.Photo(package="no_such_package", path="cat.png", class_name="tabby", why="")
    with pytest.raises(FileNotFoundError, match=r"no_such_package .*pip install 'menagerie\[quickstart\]'"):
        _ = absent.file


def test_the_first_run_shows_commands_predictions_and_places(
    first: subprocess.CompletedProcess[str], output: Path
) -> None:
    """The first run shows the commands, every image with class names, and where to look next."""
    shown = first.stdout
    assert "-m jobs.pack_shards --images" in shown
    assert "-m jobs.evaluate --models efficientnet_lite0" in shown
    lines = shown.splitlines()
    for photo in PHOTOS:
        assert any(line.split()[:1] == [photo.file.stem] and photo.class_name in line for line in lines)
    assert f"mlflow ui --backend-store-uri sqlite:///{output}/store/mlflow.db" in shown
    for what in ("report ", "reliability diagram "):
        [place] = [line.removeprefix(what).strip() for line in lines if line.startswith(what)]
        assert Path(place).is_file()


def test_the_second_run_has_nothing_to_do_and_shows_the_same(
    first: subprocess.CompletedProcess[str], output: Path
) -> None:
    places = [output / "photos", output / "shards", output / "store" / "cells"]
    before = [files_below(place) for place in places]
    second = start(output)
    assert "1 cell committed, 0 to do" in second.stderr
    assert second.stdout == first.stdout
    assert [files_below(place) for place in places] == before


def make_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not looked into")


def refusal(capsys: pytest.CaptureFixture[str], data: Path, output: Path) -> str:
    assert quickstart.main(["--data", str(data), "--output", str(output)]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert not output.exists()
    assert said.err.count("\n") == 1
    return said.err


def test_an_empty_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: no image (jpg," in refusal(capsys, tmp_path / "empty", tmp_path / "out")


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "absent: no such folder" in refusal(capsys, tmp_path / "absent", tmp_path / "out")


def test_folders_of_other_classes_are_refused_rather_than_numbered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_image(tmp_path / "pets" / "cats" / "1.jpg")
    assert "'cats' is not an ImageNet synset" in refusal(capsys, tmp_path / "pets", tmp_path / "out")


def test_output_inside_the_folder_of_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_image(tmp_path / "photos" / "1.jpg")
    assert "choose another" in refusal(capsys, tmp_path / "photos", tmp_path / "photos" / "out")


@pytest.mark.parametrize("layout", ["labels", "synsets", "unlabelled"])
def test_a_users_folder_is_packed_with_its_labels_where_it_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    photos = tmp_path / "photos"
    make_image(photos / ("n02123045/1.jpg" if layout == "synsets" else "cats/1.jpg"))
    if layout == "labels":
        (photos / "labels.csv").write_text("key,label\ncats/1,281\n")
    if layout == "unlabelled":
        make_image(photos / "2.jpg")
    commands = []
    monkeypatch.setattr(quickstart, "run_command", lambda job, options: commands.append([job, *options]) or 3)
    assert quickstart.main(["--data", str(photos), "--output", str(tmp_path / "out")]) == 3
    assert len(commands) == 1, "what fails is not followed by the next command"
    assert commands[0][:3] == ["pack_shards", "--images", str(photos)]
    assert ("--labels" in commands[0]) == (layout == "labels")


def test_a_folder_that_changed_is_packed_into_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = []
    monkeypatch.setattr(quickstart, "run_command", lambda job, options: targets.append(options[-3]) or 3)
    for number in (1, 1, 2):
        if not (image := tmp_path / "{my} photos" / f"{number}.jpg").exists():
            make_image(image)
        quickstart.main(["--data", str(image.parent), "--output", str(tmp_path / "out")])
    assert targets[0] == targets[1] != targets[2]
    assert all(target.endswith("/_my_photos") for target in targets), "braces would be a pattern"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_digits_go_from_fifty_labels_to_a_student_on_the_leaderboard(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.quickstart", "--part", "digits", "--output", str(tmp_path)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True).stdout
    jobs = ("pack_shards", "train_student", "pseudo_label", "select_topk", "materialize", "evaluate", "leaderboard")
    for job in jobs:
        assert f"-m jobs.{job} " in shown
    assert "students (B) against teachers and baselines (A)" in shown
    for what in ("leaderboard ", "student's card ", "its curves ", "chosen digits "):
        [place] = [line.removeprefix(what).strip() for line in shown.splitlines() if line.startswith(what)]
        assert Path(place).exists()
