"""Covers pipelines.cells.audit: every faulty cell is found, and nothing that a plan can reach is called garbage."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import storage
from pipelines.cells import audit
from pipelines.cells.audit import CellFinding
from pipelines.cells.cell import cell_uri, encode_cell, publish_cell
from pipelines.cells.column import SCHEMA_VERSION
from pipelines.cells.plan import plan_cells
from pipelines.cells.runs import RunRecorder
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.pixels.sandbox import QUARANTINED
from pipelines.records import Dataset, Settings, Shard
from pipelines.storage import s3_client, s3_read, s3_retries
from tests.support.cell_rows import COLUMN, cell_rows
from tests.support.fault import Fault
from tests.support.shard_files import WriteTar

SHARDS = tuple(Shard(name=f"{i:05d}", uri=f"/d/{i:05d}.tar", size=100 + i, etag=f"e{i}", rows=5) for i in range(6))
DATASET = Dataset(name="d", source="/d", shards=SHARDS)
OTHER = replace(COLUMN, settings=Settings(precision="bf16"))
REPLACED, OUTDATED = "its shard is gone or has changed", "an older version's cell"


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def found(store: str) -> list[CellFinding]:
    return list(audit.inspect(store, plan_cells(store, DATASET, [COLUMN, OTHER])))


def test_a_cell_that_is_not_what_it_should_be_is_found_and_a_sound_one_is_not(store: str) -> None:
    contents = {
        0: (flipped(encode_cell(COLUMN, SHARDS[0], cell_rows(5)), 5000), "is damaged: "),
        1: (encode_cell(COLUMN, SHARDS[0], cell_rows(5)), "is not what it should be: it is of shard 00000, not 00001"),
        2: (encode_cell(COLUMN, SHARDS[2], cell_rows(5).take([1, 0, 2, 3, 4])), "is not what it should be: its rows "),
        3: (encode_cell(COLUMN, SHARDS[3], cell_rows(4)), "is not what it should be: rows 4, expected 5"),
        5: (encode_cell(COLUMN, SHARDS[5], cell_rows(5)), None),
    }
    where = [cell_uri(store, DATASET, COLUMN, SHARDS[position]) for position in contents]
    for uri, (content, _) in zip(where, contents.values(), strict=True):
        storage.put(uri, content)
    findings = found(store)
    assert [finding.uri for finding in findings] == where
    for finding, (_, fault) in zip(findings, contents.values(), strict=True):
        assert finding.fault == fault or (fault and finding.fault and finding.fault.startswith(fault))


def test_every_committed_cell_of_every_column_is_looked_at_and_no_other(tmp_path) -> None:
    targets = [(COLUMN, SHARDS[1]), (COLUMN, SHARDS[4]), (OTHER, SHARDS[0]), (OTHER, SHARDS[4])]
    for column, shard in targets:
        publish_cell(str(tmp_path), DATASET, column, shard, cell_rows(5))
    assert found(str(tmp_path)) == [CellFinding(cell_uri(str(tmp_path), DATASET, *target), None) for target in targets]


def test_cells_that_are_away_or_removed_meanwhile_are_said_and_the_others_looked_at(faulty_s3, monkeypatch) -> None:
    monkeypatch.setattr(s3_retries, "_PATIENCE_SECONDS", 0)
    store, proxy = faulty_s3
    where = [cell_uri(store, DATASET, COLUMN, shard) for shard in SHARDS]
    for shard in SHARDS:
        publish_cell(store, DATASET, COLUMN, shard, cell_rows(5))
    plan = plan_cells(store, DATASET, [COLUMN])
    proxy.faults.append(Fault("status", match="^GET /.*/00001-"))
    storage.remove([where[4]])
    expected: list[tuple[str | None, bool]] = [(None, False)] * 6
    expected[1], expected[4] = ("SlowDown (503)", True), ("NoSuchKey (404)", True)
    findings = list(audit.inspect(store, plan))
    assert [(finding.fault, finding.unread) for finding in findings] == expected
    assert [finding.uri for finding in findings] == where


def test_rows_that_the_machine_may_be_to_blame_for_are_counted(tmp_path) -> None:
    rows = cell_rows(5, errors=(0, 2, 3))
    reasons = [QUARANTINED + "timed out", None, "empty file", QUARANTINED + "crashed the decoder", None]
    rows = rows.set_column(rows.schema.get_field_index("error"), "error", pa.array(reasons))
    publish_cell(str(tmp_path), DATASET, COLUMN, SHARDS[0], rows)
    assert [(finding.fault, finding.quarantined) for finding in found(str(tmp_path))] == [(None, 2)]


@pytest.fixture
def data(tmp_path: Path, write_tar: WriteTar) -> Path:
    """A folder of three shards of four samples."""
    for name in "abc":
        write_tar(tmp_path / "data" / "sub" / f"{name}.tar", [(f"{i}.jpg", b"x") for i in range(4)])
    return tmp_path / "data"


def run_on(store: str, data: Path, limit: int | None = None) -> Dataset:
    """The dataset in `data`, after a run on it that committed all its cells."""
    dataset = find_dataset([str(data)])
    dataset = read.limited(dataset, limit) if limit else dataset
    RunRecorder(store, dataset, (str(data),), limit, pending=len(dataset.shards)).close("finished", {})
    for shard in dataset.shards:
        publish_cell(store, dataset, COLUMN, shard, cell_rows(shard.limit or 4))
    return dataset


def uris(store: str, dataset: Dataset, *names: str) -> set[str]:
    return {cell_uri(store, dataset, COLUMN, shard) for shard in dataset.shards if shard.name in names}


def test_cells_of_shards_that_are_there_are_no_garbage_nor_those_of_a_limit(store: str, data: Path) -> None:
    for limit in (None, 2, 6):
        run_on(store, data, limit)
    assert len(list(storage.list_objects(f"{store}/cells"))) == 3 + 1 + 1  # whole; a of 2; b of 2, beside a whole one
    assert audit.garbage(store) == audit.Garbage({}, (), ())


def test_cells_of_a_shard_that_is_gone_or_was_replaced_are_garbage_and_no_others(
    store: str, data: Path, write_tar: WriteTar
) -> None:
    whole, cut = run_on(store, data), run_on(store, data, 6)
    write_tar(data / "sub" / "b.tar", [("0.jpg", b"other")] * 30)
    (data / "sub" / "c.tar").unlink()
    doomed = uris(store, whole, "sub/b", "sub/c") | uris(store, cut, "sub/b")
    assert len(doomed) == 3
    garbage = audit.garbage(store)
    assert garbage.cells == dict.fromkeys(doomed, REPLACED)
    assert garbage.kept == ()
    storage.remove(list(garbage.cells))
    assert audit.garbage(store).cells == {}
    assert plan_cells(store, whole, [COLUMN]).missing == ((1, 2),)


def test_cells_of_an_older_version_are_garbage(store: str, data: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.cells.column.SCHEMA_VERSION", SCHEMA_VERSION - 1)
    older = uris(store, run_on(store, data), "sub/a", "sub/b", "sub/c")
    monkeypatch.undo()
    run_on(store, data)
    assert audit.garbage(store).cells == dict.fromkeys(older, OUTDATED)


def test_cells_of_a_newer_version_are_kept_and_that_is_said(tmp_path: Path, data: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.cells.column.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    run_on(str(tmp_path), data)
    kept = f"the cells of data/{COLUMN.name} are a newer version's"
    monkeypatch.undo()
    (data / "sub" / "c.tar").unlink()
    assert audit.garbage(str(tmp_path)) == audit.Garbage({}, (), (kept,))


def test_what_is_damaged_or_not_ours_is_no_garbage_and_says_nothing_of_its_neighbours(
    tmp_path: Path, data: Path, monkeypatch
) -> None:
    store = str(tmp_path / "store")
    monkeypatch.setattr("pipelines.cells.column.SCHEMA_VERSION", SCHEMA_VERSION - 1)
    dataset = run_on(store, data)
    (first,), others = uris(store, dataset, "sub/a"), uris(store, dataset, "sub/b", "sub/c")
    monkeypatch.undo()
    storage.replace(first, flipped(storage.read(first), 777))
    storage.put(f"{first.rpartition('/')[0]}/notes.txt", b"somebody's own")
    assert audit.garbage(store).cells == dict.fromkeys(others, OUTDATED)


@pytest.mark.parametrize("model", ["org/model", "org-01234567-89abcdef/model"])
def test_cells_of_a_model_whose_name_had_a_slash_are_kept(model: str, store: str, data: Path) -> None:
    column = replace(COLUMN, card=replace(COLUMN.card, name="model"))
    dataset = run_on(store, data)
    for shard in dataset.shards:
        uri = cell_uri(store, dataset, column, shard).replace("/model-", f"/{model}-")
        storage.put(uri, encode_cell(column, shard, cell_rows(4)))
    garbage = audit.garbage(store)
    assert garbage.cells == {}
    assert len(garbage.kept) == (model == "org/model")
    assert all(reason.endswith("is not named as cells are") for reason in garbage.kept)


def test_cells_of_data_that_cannot_be_listed_now_are_kept_and_that_is_said(store: str, data: Path) -> None:
    run_on(store, data)
    shutil.rmtree(data)
    garbage = audit.garbage(store)
    assert garbage.cells == {}
    assert len(garbage.kept) == 1
    assert garbage.kept[0].startswith(f"the data of 'data' cannot be listed now: {data}")


def test_one_place_of_a_dataset_that_cannot_be_listed_keeps_all_of_that_name(
    tmp_path: Path, data: Path, write_tar: WriteTar
) -> None:
    store, moved = str(tmp_path / "store"), tmp_path / "elsewhere" / "data"
    run_on(store, data)
    shutil.copytree(data, moved)
    run_on(store, moved)
    for folder in (data, moved):
        write_tar(folder / "sub" / "a.tar", [("0.jpg", b"other")] * 30)
    assert len(audit.garbage(store).cells) == 1
    shutil.rmtree(data)
    garbage = audit.garbage(store)
    assert garbage.cells == {}
    assert len(garbage.kept) == 1


def test_cells_of_a_dataset_that_no_run_names_are_kept_and_that_is_said_once(store: str, data: Path) -> None:
    for shard in SHARDS:
        publish_cell(store, DATASET, COLUMN, shard, cell_rows(5))
    run_on(store, data)
    assert audit.garbage(store) == audit.Garbage({}, (), ("no run names the data of 'd'",))


def test_a_run_that_begins_while_we_look_loses_nothing(
    tmp_path: Path, data: Path, write_tar: WriteTar, monkeypatch
) -> None:
    store = str(tmp_path / "store")
    run_on(store, data)

    def then_replaced(sources: tuple[str, ...]) -> Dataset:
        listed = find(sources)
        write_tar(data / "sub" / "a.tar", [("0.jpg", b"other")] * 30)
        monkeypatch.undo()
        run_on(store, data)
        return listed

    find = find_dataset
    monkeypatch.setattr(audit, "find_dataset", then_replaced)
    assert audit.garbage(store) == audit.Garbage({}, (), ("a run on 'data' has begun just now",))
    assert len(audit.garbage(store).cells) == 1


def test_a_damaged_record_of_a_run_stops_everything(tmp_path: Path, data: Path) -> None:
    run_on(str(tmp_path), data)
    storage.put(f"{tmp_path}/runs/data-x/0.json", b"")
    with pytest.raises(ValueError, match=r"0\.json: not a record of a run"):
        audit.garbage(str(tmp_path))


def begin_a_write(store: str, folder: str, name: str = "x") -> None:
    """What a process that is killed while it writes leaves."""
    if storage.is_remote(store):
        bucket, key = s3_read.split(storage.join(store, folder, name))
        s3_client.client().create_multipart_upload(Bucket=bucket, Key=key)
    else:
        Path(store, folder).mkdir(parents=True, exist_ok=True)
        Path(store, folder, f".menagerie-{name}").write_bytes(b"PAR1")


def test_unfinished_writes_are_garbage_once_they_are_old_enough(store: str, data: Path) -> None:
    run_on(store, data)
    begin_a_write(store, "cells/d")
    # moto dates every upload to 2010
    assert audit.garbage(store, write_seconds=1e10).leftovers == ()
    (leftover,) = audit.garbage(store, write_seconds=-1.0).leftovers
    assert leftover.uri.startswith(f"{store}/cells/d/")
    storage.discard(leftover)
    assert audit.garbage(store, write_seconds=-1.0).leftovers == ()


def test_unfinished_writes_of_others_beside_our_folders_are_not_ours_to_remove(store: str) -> None:
    ours = {"cells/d/c", "datasets", "reports/d-x", "runs/d-x", "training/m/checkpoints", "tuning", "weights", "zoo"}
    for folder in ours | {"leaderboard", "cells-of-others", "mlartifacts/1"}:
        begin_a_write(store, folder)
    found = {leftover.uri.rpartition("/")[0] for leftover in audit.garbage(store, write_seconds=-1.0).leftovers}
    assert found == {f"{store}/{folder}" for folder in ours}


def test_that_is_after_a_day(tmp_path: Path) -> None:
    for name, hours in (("new", 0), ("young", 23), ("old", 25)):
        begin_a_write(str(tmp_path), "cells/d", name)
        begun = time.time() - hours * 3600
        os.utime(tmp_path / "cells" / "d" / f".menagerie-{name}", (begun, begun))
    assert [Path(leftover.uri).name for leftover in audit.garbage(str(tmp_path)).leftovers] == [".menagerie-old"]
