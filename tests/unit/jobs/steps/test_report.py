"""Covers jobs.steps.report and data_quality, and --status: bad data is an error only after the results are shown."""

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import evaluate
from jobs.console import cli
from jobs.console.cli import BAD_ARGUMENTS, DONE, UNFINISHED
from jobs.steps import fill
from pipelines import storage
from pipelines.cells.cell import publish_cell
from pipelines.cells.runs import Run
from pipelines.data.dataset import find_dataset
from pipelines.records import Dataset, Settings
from tests.support import cell_rows
from tests.support.shard_files import tar_of

COLUMN = replace(cell_rows.COLUMN, settings=Settings(batch_size=4))


MODEL_ROW = re.compile(rf"^{COLUMN.card.name} ", re.MULTILINE)


def run(folder: Path, *flags: str) -> int:
    command = ["--models", COLUMN.card.name, "--data", str(folder / "val"), "--store", str(folder / "out")]
    results = ["--results-file", str(folder / "results.json")]
    return evaluate.main([*command, "--batch-size", "4", "--tracking-uri", "none", *results, *flags])


def write_shard(folder: Path, members: list[tuple[str, bytes]], name: str = "00000") -> None:
    (folder / "val").mkdir(exist_ok=True)
    (folder / "val" / f"{name}.tar").write_bytes(tar_of(members))


def evaluated(folder: Path, rows: pa.Table) -> None:
    """A dataset of one shard, and a store with its cell, of these rows."""
    write_shard(folder, [("0.jpg", b"x")])
    dataset = find_dataset([str(folder / "val")])
    publish_cell(str(folder / "out"), dataset, COLUMN, dataset.shards[0], rows)


@pytest.mark.parametrize(
    ("rows", "bad", "flags", "code"),
    [
        (300, 9, [], DONE),
        (300, 10, [], BAD_ARGUMENTS),
        (9, 9, [], DONE),
        (1000, 10, [], DONE),
        (1000, 11, [], BAD_ARGUMENTS),
        (50, 10, ["--max-bad-rate", "0.2"], DONE),
        (50, 10, ["--max-bad-rate", "0.19"], BAD_ARGUMENTS),
        (50, 50, ["--max-bad-rate", "0.99"], BAD_ARGUMENTS),
        (50, 50, ["--max-bad-rate", "1"], DONE),
    ],
)
def test_more_bad_images_than_the_rate_and_ten_at_least_are_an_error_after_the_table(
    rows, bad, flags, code, tmp_path, capsys
) -> None:
    evaluated(tmp_path, cell_rows.cell_rows(rows, errors=tuple(range(bad))))
    assert run(tmp_path, *flags) == code
    said = capsys.readouterr()
    assert said.out.splitlines()[2].split()[0] == COLUMN.card.name
    assert said.out.splitlines()[-1].split() == [str(bad), "empty", "file"]
    rate = flags[1] if flags else "0.01"
    error = f"error: {bad} of {rows} images are bad, more than --max-bad-rate {rate}: {bad} empty file; see"
    assert said.err.splitlines()[-1].startswith(error) == (code == BAD_ARGUMENTS)
    assert json.loads((tmp_path / "results.json").read_bytes())["results"][0]["errors"] == bad


@pytest.mark.usefixtures("local_ray")
def test_a_set_with_a_fifth_of_broken_images_is_reported_and_then_refused(tmp_path, jpegs, capsys) -> None:
    for shard in range(2):
        broken = {0: b"", 1: b"no picture", 2: jpegs[0][:2000], 3: b"", 4: b""}
        pictures = [broken.get(i, jpegs[i]) for i in range(25)]
        members = [(f"{shard}-{i}.jpg", picture) for i, picture in enumerate(pictures)]
        members += [(f"{shard}-{i}.cls", b"7") for i in range(25)]
        write_shard(tmp_path, sorted(members), f"{shard:05d}")
    assert run(tmp_path) == BAD_ARGUMENTS
    said = capsys.readouterr()
    reasons = {"empty file": 6, "not an image": 2, "broken image": 2}
    assert said.err.splitlines()[-1] == (
        "error: 10 of 50 images are bad, more than --max-bad-rate 0.01: 6 empty file, 2 broken image, 2 not an image; "
        "see errors.parquet"
    )
    assert COLUMN.card.name in said.out
    (row,) = json.loads((tmp_path / "results.json").read_bytes())["results"]
    assert (row["n"], row["errors"], row["error_reasons"], row["complete"]) == (50, 10, reasons, True)
    assert list((tmp_path / "out" / "reports").rglob("errors.parquet"))


def without_labels(rows: pa.Table) -> pa.Table:
    position = rows.schema.get_field_index("label")
    return rows.set_column(position, "label", pa.nulls(len(rows), rows.schema.field("label").type))


def test_images_without_labels_may_be_bad_too_and_lacking_a_label_is_not_that(tmp_path, capsys) -> None:
    for name, bad, code in (("sound", 9, DONE), ("spoilt", 10, BAD_ARGUMENTS)):
        (tmp_path / name).mkdir()
        evaluated(tmp_path / name, without_labels(cell_rows.cell_rows(50, errors=tuple(range(bad)))))
        assert run(tmp_path / name) == code
        said = capsys.readouterr()
        assert "no sample has a label" in said.err
        assert f"note     {bad} of 50 images are bad: {bad} empty file" in said.err
    error = "error: 10 of 50 images are bad, more than --max-bad-rate 0.01: 10 empty file; see errors.parquet"
    assert said.err.splitlines()[-1] == error


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four shards that nobody reads."""
    for shard in range(4):
        write_shard(tmp_path, [("0.jpg", b"x")], f"{shard:05d}")
    return find_dataset([str(tmp_path / "val")])


@pytest.fixture
def status(tmp_path: Path, dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[int, str, str]]:
    """Asks for it: the exit code, the table, and what else is said."""

    def ask() -> tuple[int, str, str]:
        code = run(tmp_path, "--status")
        said = capsys.readouterr()
        return code, said.out, said.err

    return ask


def record(folder: Path, dataset: Dataset, **fields: Any) -> None:
    """What another run on `dataset` left about itself; `ago` is when it was last heard of, a minute after its start."""
    updated = int(time.time()) - fields.pop("ago", 0)
    about = {"sources": (), "limit": None, "host": "here", "pid": 7, "started": updated - 60, "pending": 4}
    about |= {"columns": (COLUMN.name,), **fields}
    where = f"{folder}/out/runs/{dataset.name}-{dataset.digest}/{uuid.uuid4().hex}.json"
    storage.put(where, json.dumps(asdict(Run(updated=updated, **about))).encode())


def commit(folder: Path, dataset: Dataset, *positions: int) -> None:
    for position in positions:
        publish_cell(str(folder / "out"), dataset, COLUMN, dataset.shards[position], cell_rows.cell_rows(2))


def row(table: str) -> list[str]:
    """The words of the last row, but for date, time, host and process."""
    return table.splitlines()[-1].split()[3:]


def test_before_any_run_the_status_is_that_nothing_is_there_and_the_store_stays_absent(tmp_path, status) -> None:
    code, table, said = status()
    assert (code, table) == (UNFINISHED, "")
    assert "cells    0 of 4 committed, 0 in flight, 4 missing" in said
    assert not (tmp_path / "out").exists()


def test_the_status_of_a_run_that_goes_on_says_how_far_it_is(tmp_path, dataset, status) -> None:
    record(tmp_path, dataset, ago=10, cells=1, images=2000, bad=3, in_flight=2, rate=61.2, remaining=190.9)
    commit(tmp_path, dataset, 1)
    code, table, said = status()
    assert code == UNFINISHED
    assert "cells    1 of 4 committed, 2 in flight, 3 missing" in said
    *shown, left = row(table)[1:]
    assert shown[:1] + shown[2:] == ["running,", "ago", "1/4", "2", "2,000", "3", "61.2"]
    assert (shown[1], left) in {("0:10", "3:00"), ("0:10", "2:59"), ("0:11", "2:59")}, "a second may pass meanwhile"


def test_what_others_fill_is_not_in_flight_for_these_models(tmp_path, dataset, status) -> None:
    record(
        tmp_path, dataset, in_flight=2, columns=("resnest50d-0b0b0b0b-12345678", COLUMN.name.replace("efficient", "x"))
    )
    _, table, said = status()
    assert "0 in flight" in said
    assert "resnest50d +1" in table


def test_the_status_of_a_killed_run_says_for_how_long_it_is_silent(tmp_path, dataset, status) -> None:
    record(tmp_path, dataset, ago=3700, in_flight=2)
    code, table, said = status()
    assert code == UNFINISHED
    assert re.search(r"silent for 1:01:4\d; killed\?", table)
    assert "0 in flight" in said


def test_the_status_after_the_end_is_that_nothing_is_missing(tmp_path, dataset, status) -> None:
    commit(tmp_path, dataset, 0, 1, 2, 3)
    record(tmp_path, dataset, cells=4, images=8, state="finished")
    code, table, said = status()
    assert code == DONE
    assert "cells    4 of 4 committed, 0 in flight, 0 missing" in said
    assert row(table)[1:] == ["finished", "4/4", "8", "0"]


def test_the_status_names_what_failed_last_and_still_lacks_cells(tmp_path, dataset, status) -> None:
    mended, broken, model = dataset.shards[0].uri, dataset.shards[3].uri, COLUMN.card.name
    for ago, reason in ((200, "another one"), (100, "ReadError:\n  cut")):
        failures = {mended: "cut", broken: reason, model: "no weights"}
        record(tmp_path, dataset, ago=ago, state="unfinished", failures=failures)
    commit(tmp_path, dataset, 0, 1, 2)
    code, _, said = status()
    assert code == UNFINISHED
    failed = [line for line in said.splitlines() if line.startswith("failed")]
    assert failed == [f"failed   {broken}: ReadError: cut", f"failed   {model}: no weights"]


def test_the_status_says_why_each_run_ended_before_its_time_whatever_runs_since(tmp_path, dataset, status) -> None:
    for ago, state, reason in ((300, "stopped", "stopped by SIGTERM"), (200, "unfinished", "RayError:\n  lost")):
        record(tmp_path, dataset, ago=ago, state=state, failures={fill.RUN: reason})
    record(tmp_path, dataset)
    ended = [line for line in status()[2].splitlines() if line.startswith("run      ")]
    assert [line.partition(" here:7 ended: ")[2] for line in ended] == ["stopped by SIGTERM", "RayError: lost"]


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_narrow_terminal_the_status_keeps_every_number_whole(
    width, tmp_path, dataset, status, monkeypatch
) -> None:
    monkeypatch.setattr(cli.stdout, "width", width)
    numbers = {"cells": 49_999, "pending": 50_000, "images": 1_281_167, "bad": 12_345, "rate": 1234.5}
    record(tmp_path, dataset, host="ray-worker-0123456789-abcde.cluster.local", state="unfinished", **numbers)
    table = status()[1]
    assert {"unfinished", "49999/50000", "1,281,167", "12,345", "1234.5"} <= set(table.split())
    assert "…" not in table


@pytest.mark.parametrize(("flags", "code"), [([], DONE), (["--dataset", "imagenet-val"], BAD_ARGUMENTS)])
def test_labels_that_count_from_one_are_a_warning_and_with_a_set_an_error_after_the_table(
    tmp_path, capsys, flags, code
) -> None:
    rows = cell_rows.cell_rows(50)
    counted = pa.array(range(1, 51), pa.int32())
    evaluated(tmp_path, rows.set_column(rows.schema.get_field_index("label"), "label", counted))
    assert run(tmp_path, *flags) == code
    said = capsys.readouterr()
    assert MODEL_ROW.search(said.out)
    last = said.err.splitlines()[-1]
    assert last.startswith("error: --dataset imagenet-val: labels against" if flags else "warning: labels against")
    assert "0 of 50 (0.0 %) agree, 50 (100.0 %) would with labels less one (do they count from 1?); expected" in last


def test_a_set_without_any_label_is_an_error_where_its_cells_are_there_already(tmp_path, capsys) -> None:
    rows = cell_rows.cell_rows(50)
    none = pa.nulls(50, pa.int32()), pa.nulls(50, pa.float32())
    for name, column in zip(("label", "label_prob"), none, strict=True):
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    evaluated(tmp_path, rows)
    assert run(tmp_path) == DONE
    assert run(tmp_path, "--dataset", "imagenet-val") == BAD_ARGUMENTS
    assert "--dataset imagenet-val: no sample has a label" in capsys.readouterr().err.splitlines()[-1]


def test_the_first_bad_row_of_what_is_committed_is_shown_whole(tmp_path, capsys) -> None:
    evaluated(tmp_path, cell_rows.cell_rows(50, errors=(7, 9)))
    assert run(tmp_path) == DONE
    bad = [line for line in capsys.readouterr().err.splitlines() if line.startswith("first bad row")]
    assert bad == [f"first bad row  {tmp_path / 'val' / '00000.tar'}, row 7, key 'k7', at byte 7168: empty file"]
