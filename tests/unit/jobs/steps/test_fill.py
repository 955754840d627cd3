"""Covers jobs.steps.fill: progress of a run, its record for others to see, and how it ends."""

import re
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import zoo
from jobs import evaluate
from jobs.console import progress
from jobs.console.cli import BAD_ARGUMENTS, DONE, INTERRUPTED, TERMINATED, UNFINISHED
from jobs.console.progress import Meter
from jobs.steps import fill
from pipelines.cells import runs
from pipelines.cells.cell import publish_cell
from pipelines.cells.column import Column
from pipelines.data.dataset import find_dataset
from pipelines.records import Settings
from pipelines.walk import filling as walk_filling
from pipelines.walk.rounds import Progress
from tests.support import cell_rows
from tests.support.shard_files import tar_of

MODEL = cell_rows.CARD.name


def run(folder: Path, *flags: str) -> int:
    command = ["--models", MODEL, "--data", str(folder / "val"), "--store", str(folder / "out"), "--batch-size", "4"]
    return evaluate.main([*command, "--tracking-uri", "none", *flags])


def write_shards(folder: Path, pictures: list[bytes], count: int) -> None:
    """`count` shards, each of these labelled pictures."""
    (folder / "val").mkdir()
    for shard in range(count):
        members = []
        for i, picture in enumerate(pictures):
            members += [(f"{shard}-{i}.jpg", picture), (f"{shard}-{i}.cls", b"%d" % i)]
        (folder / "val" / f"{shard:05d}.tar").write_bytes(tar_of(members))


def the_run(folder: Path) -> runs.Run:
    (found,) = runs.of_dataset(str(folder / "out"), find_dataset([str(folder / "val")]))
    return found


def at(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(monotonic=lambda: seconds)


def test_in_a_log_there_is_a_line_every_ten_seconds_with_images_bad_ones_rate_and_eta(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "time", at(1000))
    with Meter("cells", 10, _started=1000) as meter:
        for second, done, images, bad in ((2, 0, 32, 0), (9, 1, 200, 1), (13, 2, 1132, 1), (20, 4, 1832, 2)):
            monkeypatch.setattr(progress, "time", at(1000 + second))
            meter.update(done, images, bad)
        assert meter.summary() == "1,832 images in 0:20, 100.0 img/s once running"
        monkeypatch.setattr(progress, "time", at(1024))
        meter.update(5, 2232, 2)
    assert capsys.readouterr().err.splitlines() == [
        "cells 0/10 · 32 images",
        "cells 2/10 · 1,132 images · 1 bad · 100.0 img/s · ETA 0:45",
        "cells 5/10 · 2,232 images · 2 bad · 100.0 img/s · ETA 0:22",
    ]


def test_where_manifests_tell_the_number_of_images_the_eta_is_of_these(monkeypatch, capsys) -> None:
    with Meter("cells", 4, expected=3000) as meter:
        for second, images in ((0, 0), (11, 1100)):
            monkeypatch.setattr(progress, "time", at(1000 + second))
            meter.update(0, images)
    assert capsys.readouterr().err.splitlines()[-1] == "cells 0/4 · 1,100 images · 100.0 img/s · ETA 0:19"


@pytest.mark.usefixtures("local_ray")
def test_a_run_shows_how_far_it_is_and_its_status_can_be_asked_for_meanwhile(
    tmp_path, jpegs, monkeypatch, capsys
) -> None:
    write_shards(tmp_path, [*jpegs[:5], b""], 3)
    often = partial(runs.RunRecorder, intervals=runs.Intervals(every_seconds=0.05))
    monkeypatch.setattr(fill, "RunRecorder", often)
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0)
    monkeypatch.setattr(progress, "_LEAST_SECONDS", 0)
    report, codes = fill._report_progress, []

    def then_ask(meter: Meter, recorder: runs.RunRecorder, gauges: object, done: Progress) -> None:
        report(meter, recorder, gauges, done)
        if done.images > 6 and not codes:
            while the_run(tmp_path).images < done.images:
                time.sleep(0.01)
            codes.append(run(tmp_path, "--status"))

    monkeypatch.setattr(fill, "_report_progress", then_ask)
    assert run(tmp_path) == DONE
    assert codes == [UNFINISHED]
    said = capsys.readouterr()
    pace = r"cells \d/3 · \d+ images( · \d bad)? · \d[\d.]* img/s( · ETA \d:\d\d)?"
    assert [line for line in said.err.splitlines() if re.fullmatch(pace, line)]
    assert re.search(r"cells    \d of 3 committed, \d in flight, \d missing", said.err)
    assert re.search(r":\d+ +efficientnet_lite0 +running, 0:0\d ago +\d/3 +\d +\d+ +\d +\d", said.out), said.out
    assert re.search(r"^18 images in \d:\d\d", said.err, re.MULTILINE)
    ended = the_run(tmp_path)
    assert (ended.state, ended.cells, ended.images, ended.bad, ended.in_flight) == ("finished", 3, 18, 3, 0)


@pytest.mark.usefixtures("local_ray")
def test_a_run_stops_as_soon_as_too_many_images_are_bad_and_reports_what_it_has(tmp_path, jpegs, capsys) -> None:
    write_shards(tmp_path, [jpegs[0], b"", b"", b""], 25)
    assert run(tmp_path) == BAD_ARGUMENTS
    said = capsys.readouterr()
    error = r"error: stopped by --max-bad-rate 0\.01: (\d+) of the first (\d+) images are bad: \1 empty file"
    assert (stopped := re.fullmatch(error, said.err.splitlines()[-1]))
    assert 10 < int(stopped[1]) <= int(stopped[2]) * 3 / 4 < 75
    committed = len(list((tmp_path / "out" / "cells").rglob("*.parquet")))
    assert 0 < committed < 25
    assert f"* incomplete: {committed} of 25 shards" in said.out
    assert the_run(tmp_path).state == "unfinished"


STOPS = [
    (signal.SIGINT, INTERRUPTED, "stopped by Ctrl-C"),
    (signal.SIGTERM, TERMINATED, "stopped by SIGTERM"),
    (
        OSError("http://me:pa/ss@here/x?signature=1:\n  no room left"),
        BAD_ARGUMENTS,
        "OSError: http://here/x no room left",
    ),
]


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(("why", "code", "reason"), STOPS, ids=["Ctrl-C", "SIGTERM", "OSError"])
def test_a_run_that_is_stopped_leaves_the_reason_in_its_record_without_what_is_secret(
    why, code, reason, tmp_path, jpegs, monkeypatch
) -> None:
    def stopped(*_: object) -> None:
        if isinstance(why, OSError):
            raise why
        signal.raise_signal(why)

    write_shards(tmp_path, jpegs[:1], 1)
    monkeypatch.setattr(walk_filling, "fill", stopped)
    assert run(tmp_path) == code
    ended = the_run(tmp_path)
    assert (ended.state, ended.failures) == ("stopped", {fill.RUN: reason})


def test_the_reason_of_a_stop_is_short_and_in_one_line() -> None:
    said = fill._cause_line(RuntimeError("\n".join(["a line of a worker's traceback"] * 1000)))
    assert said.startswith("RuntimeError: a line of")
    assert "\n" not in said
    assert len(said) <= 300


def test_a_model_without_weights_does_not_keep_the_others_results_from_being_shown(
    tmp_path, jpegs, new_machine, capsys
) -> None:
    """The first run says which model lacks its weights; the same command again must not say only that."""
    new_machine()
    write_shards(tmp_path, jpegs[:3], 1)
    settings = {"ID": MODEL, "Image Size": 160, "Crop Pct": 0.9, "Interpolation": "bilinear"}
    entry = {"Name": "mine", "Metadata": settings, "Weights": "http://127.0.0.1:9/mine-01234567.pth"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"Models": [entry]}))
    dataset = find_dataset([str(tmp_path / "val")])
    column = Column(card=zoo.card(MODEL), file=cell_rows.COLUMN.file, settings=Settings(batch_size=4))
    publish_cell(str(tmp_path / "out"), dataset, column, dataset.shards[0], cell_rows.cell_rows(3))
    assert run(tmp_path, "--cards", str(tmp_path / "mine.yaml"), "--models", f"{MODEL},mine") == UNFINISHED
    said = capsys.readouterr()
    assert MODEL in said.out
    assert "failed   mine: mine-01234567.pth is not available" in said.err
