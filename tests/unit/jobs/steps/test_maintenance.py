"""Covers jobs.steps.maintenance: what --status, --verify and --retry-failed show and change."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import evaluate
from jobs.console.cli import BAD_ARGUMENTS, DONE, UNFINISHED
from jobs.steps import preflight
from jobs.steps.probes import Probe
from pipelines import storage
from pipelines.cells.cell import cell_uri, encode_cell, publish_cell, read_cell
from pipelines.cells.plan import Plan
from pipelines.data.dataset import find_dataset
from pipelines.pixels.sandbox import QUARANTINED
from pipelines.records import Settings
from pipelines.storage import s3_retries
from pipelines.walk import filling
from tests.support import cell_rows
from tests.support.fault import Fault
from tests.support.kept_stores import COLUMN, IMAGES, files, fill
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def calm(pictures: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """The store after a run on the pictures that nothing disturbed."""
    store = tmp_path_factory.mktemp("calm") / "out"
    assert run(pictures, store) == DONE
    return store


def arguments(data: Path, store: Path | str, *flags: str) -> list[str]:
    command = ["--models", COLUMN.card.name, "--data", str(data), "--store", str(store), "--batch-size", "4"]
    return [*command, "--tracking-uri", "none", *flags]


def run(data: Path, store: Path | str, *flags: str) -> int:
    return evaluate.main(arguments(data, store, *flags))


def cells_of(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "cells").rglob("*.parquet")}


LOOKING = """
import sys
from jobs import evaluate
codes = [evaluate.main([*sys.argv[1:], mode]) for mode in ("--status", "--verify", "--dry-run")]
codes.append(evaluate.main(["--gc", "--store", sys.argv[sys.argv.index("--store") + 1]]))
sys.exit(f"exit codes {codes}, ray {'ray' in sys.modules}, torch {'torch' in sys.modules}")
"""


def test_looking_at_a_store_loads_no_ray_and_changes_nothing(data, store) -> None:
    fill(store, data, names="01")
    before = files(store)
    command = [sys.executable, "-c", LOOKING, *arguments(data, store)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL).stderr
    assert said.count("2 cells committed, 2 to do") == 3
    assert said.splitlines()[-1] == "exit codes [3, 3, 0, 0], ray False, torch False"
    assert files(store) == before


def test_modes_exclude_each_other(data, store, capsys) -> None:
    for modes in (("--status", "--verify"), ("--retry-failed", "--verify"), ("--dry-run", "--retrack")):
        assert run(data, store, *modes) == BAD_ARGUMENTS
        said = capsys.readouterr().err
        assert all(mode in said for mode in modes)
        assert said.endswith(": choose one\n")
    assert run(data, store, "--yes") == BAD_ARGUMENTS
    assert run(data, store, "--gc") == BAD_ARGUMENTS
    assert not store.exists()


def spoil(store: Path, data: Path) -> dict[str, str]:
    """Make three of a store's four cells bad, each in its own way; what is said of each, by file name."""
    dataset = find_dataset([str(data)])
    where = [Path(cell_uri(str(store), dataset, COLUMN, shard)) for shard in dataset.shards]
    flipped = bytearray(where[1].read_bytes())
    flipped[1000] ^= 4
    where[1].write_bytes(flipped)
    rows = read_cell(str(where[2]), COLUMN.classes_kept)
    where[2].write_bytes(encode_cell(COLUMN, dataset.shards[2], rows.take([1, 0])))
    rows = read_cell(str(where[3]), COLUMN.classes_kept)
    reasons = pa.array([QUARANTINED + "timed out", *[None] * (len(rows) - 1)])
    rows = rows.set_column(rows.schema.get_field_index("error"), "error", reasons)
    where[3].write_bytes(encode_cell(COLUMN, dataset.shards[3], rows))
    faults = ("is damaged: its SHA-256", "is not what it should be: its rows are not in order", "1 quarantined row")
    return {str(path): fault for path, fault in zip(where[1:], faults, strict=True)}


def test_damaged_cells_are_named_and_the_advice_repairs_the_store(data, store, calm, capsys) -> None:
    """Damaged cells are named, and the command that is then advised makes the store that of a calm run."""
    shutil.copytree(calm, store)
    assert run(data, store, "--verify") == DONE
    assert "verified 4 cells: 0 damaged" in capsys.readouterr().err
    faults = spoil(store, data)
    good = {name: entry for name, entry in files(store / "cells").items() if "/00000-" in name}
    assert run(data, store, "--verify") == UNFINISHED
    said = capsys.readouterr().err
    assert [f"damaged  {uri}: {fault}" in said for uri, fault in faults.items()] == [True, True, False]
    assert "verified 4 cells: 2 damaged" in said
    assert "--retry-failed removes and computes those again" in said
    assert run(data, store, "--retry-failed") == DONE
    said = capsys.readouterr().err
    assert all(f"again    {uri}: {fault}" in said for uri, fault in faults.items())
    assert cells_of(store) == cells_of(calm)
    assert len(good) == 1
    assert good.items() <= files(store / "cells").items()
    assert run(data, store, "--verify") == DONE


def test_a_cell_that_is_away_is_neither_called_damaged_nor_removed(data, faulty_s3, monkeypatch, capsys) -> None:
    store, proxy = faulty_s3
    fill(store, data)
    before = list(storage.list_objects(f"{store}/cells"))
    monkeypatch.setattr(s3_retries, "_PATIENCE_SECONDS", 0)
    proxy.faults.append(Fault("status", match="^GET /.*/00001-"))
    for mode, verdict in (
        ("--verify", "verified 3 cells: 0 damaged; 1 not read"),
        ("--retry-failed", "the same command"),
    ):
        assert run(data, store, mode) == UNFINISHED
        said = capsys.readouterr().err
        assert f"unread   {before[1].uri}: SlowDown (503)" in said
        assert verdict in said
        assert "damaged " not in said.replace(verdict, "")
    assert list(storage.list_objects(f"{store}/cells")) == before


def test_a_damaged_cell_loses_its_own_report_alone_and_that_is_one_line_with_the_way_out(data, store, capsys) -> None:
    dataset = fill(store, data)
    lost = next((store / "cells").rglob("00002-*.parquet"))
    lost.write_bytes(lost.read_bytes()[:-7])
    other = replace(COLUMN, settings=Settings(precision="bf16", batch_size=COLUMN.settings.batch_size))
    for shard in dataset.shards:
        publish_cell(str(store), dataset, other, shard, cell_rows.cell_rows(IMAGES))
    assert run(data, store, "--precision", "fp32", "bf16") == UNFINISHED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"failed   {COLUMN.name}: {lost} is damaged: ")
    assert "--retry-failed" in said
    assert {path.name for path in (store / "reports").glob("*/*/")} == {other.name}


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("cause", ["no GPU", "no weights", "no shard"])
def test_what_cannot_be_computed_again_is_not_removed(cause: str, data, store, calm, monkeypatch, capsys) -> None:
    shutil.copytree(calm, store)
    spoil(store, data)
    before = files(store / "cells")
    if cause == "no weights":
        monkeypatch.setattr(preflight, "fetch_weights", lambda *_: {COLUMN.card.name: "gone"})
    if cause == "no shard":
        for shard in data.iterdir():
            status = shard.stat()
            shard.write_bytes(b"x" * status.st_size)
            os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    expected = BAD_ARGUMENTS if cause == "no GPU" else UNFINISHED
    assert run(data, store, "--retry-failed", *(("--device", "cuda") if cause == "no GPU" else ())) == expected
    assert ("has 0 GPUs" if cause == "no GPU" else "is damaged") in capsys.readouterr().err
    assert files(store / "cells") == before


def test_looking_says_which_models_have_no_weights(data, store, capsys) -> None:
    fill(store, data)
    arguments_of_two = [
        entry.replace(COLUMN.card.name, f"{COLUMN.card.name},sknet50") for entry in arguments(data, store)
    ]
    for mode in ("--status", "--verify", "--dry-run"):
        assert evaluate.main([*arguments_of_two, mode]) == UNFINISHED
        assert "failed   sknet50: " in capsys.readouterr().err


def test_where_nothing_has_failed_a_retry_computes_nothing(data, store, monkeypatch) -> None:
    monkeypatch.setattr(filling, "fill", lambda *_: pytest.fail("Ray was started"))
    fill(store, data)
    before = files(store / "cells")
    assert run(data, store, "--retry-failed") == DONE
    assert files(store / "cells") == before


def test_broken_and_absent_shards_leave_no_trace_once_mended(data, store, calm, monkeypatch, capsys) -> None:
    """A shard that was broken and one that was away leave no trace once they are mended."""
    broken, away, check = data / "00001.tar", data / "00002.tar", preflight.probed
    whole, listed = broken.read_bytes(), broken.stat().st_mtime_ns
    broken.write_bytes(whole[: len(whole) // 2])

    def then_gone(plan: Plan, max_bad_rate: float) -> list[Probe]:
        told = check(plan, max_bad_rate)
        away.rename(data / "away")
        return told

    monkeypatch.setattr(preflight, "probed", then_gone)
    assert run(data, store) == UNFINISHED
    monkeypatch.undo()
    (data / "away").rename(away)
    capsys.readouterr()
    assert run(data, store, "--status") == UNFINISHED
    said = capsys.readouterr().err
    assert f"failed   {broken}: ReadError" in said
    assert f"failed   {away}: FileNotFoundError" in said
    broken.write_bytes(whole)
    os.utime(broken, ns=(listed, listed))
    good = files(store / "cells")
    assert len(good) == 2
    assert run(data, store, "--retry-failed") == DONE
    assert good.items() <= files(store / "cells").items()
    assert cells_of(store) == cells_of(calm)
