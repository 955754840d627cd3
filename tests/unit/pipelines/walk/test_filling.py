"""Covers pipelines.walk.filling on a real Ray: every row in one cell, the same bytes however it runs, failures."""

import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from pipelines import storage
from pipelines.cells.cell import cell_uri, load_cells
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, plan_cells
from pipelines.cluster import shares
from pipelines.data.dataset import find_dataset
from pipelines.records import Settings
from pipelines.walk import filling
from pipelines.walk.options import RunOptions
from pipelines.walk.rounds import Progress
from tests.support.paths import ROOT
from zoo.weights import wanted

CARD = zoo.card("efficientnet_lite0")
COLUMN = Column(card=CARD, file=wanted.published(CARD), settings=Settings(batch_size=4))
SIZES = (7, 1, 4)
OPTIONS = RunOptions(device="cpu", pause_seconds=0)

ALONE = """
import sys
import ray
import zoo
from pipelines.walk import filling
from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.data.dataset import find_dataset
from pipelines.records import Settings
from pipelines.walk.options import RunOptions
from zoo.weights import wanted
cpus, data, store = sys.argv[1:]
ray.init(num_cpus=int(cpus), include_dashboard=False, log_to_driver=False)
name = "efficientnet_lite0"
column = Column(card=zoo.card(name), file=wanted.published(zoo.card(name)), settings=Settings(batch_size=4))
outcome = filling.fill(store, plan_cells(store, find_dataset([data]), [column]), RunOptions(device="cpu"), watch=print)
sys.exit(outcome.plan.pending)
"""


@pytest.fixture
def data(tmp_path, write_tar, jpegs) -> Path:
    """Shards of 7, 1 and 4 pictures."""
    pictures = iter(enumerate(jpegs))
    for shard, size in enumerate(SIZES):
        members = []
        for i, jpeg in (next(pictures) for _ in range(size)):
            members += [(f"{i:03d}.jpg", jpeg), (f"{i:03d}.cls", str(i).encode())]
        write_tar(tmp_path / "data" / f"{shard:05d}.tar", members)
    return tmp_path / "data"


def plan(data: Path, store: str) -> Plan:
    return plan_cells(store, find_dataset([str(data)]), [COLUMN])


def contents(store: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(store).rglob("*.parquet")}


@pytest.mark.usefixtures("local_ray")
def test_every_sample_is_a_row_of_exactly_one_cell(data, tmp_path) -> None:
    store = str(tmp_path / "store")
    seen: list[Progress] = []
    outcome = filling.fill(store, plan(data, store), OPTIONS, seen.append)
    assert (outcome.plan.pending, outcome.images, outcome.failures) == (0, 12, {})
    keys = [rows["key"].to_pylist() for _, rows in load_cells(store, outcome.plan.dataset, COLUMN)]
    assert list(map(len, keys)) == list(SIZES)
    assert [key for cell in keys for key in cell] == [f"{i:03d}" for i in range(12)]
    assert (seen[-1].images, seen[-1].cells) == (12, 3)


@pytest.mark.usefixtures("local_ray")
def test_only_what_is_missing_is_filled_and_the_bytes_are_those_of_an_undisturbed_run(data, tmp_path) -> None:
    calm, torn = str(tmp_path / "calm"), str(tmp_path / "torn")
    filling.fill(calm, plan(data, calm), OPTIONS, print)
    filling.fill(torn, plan(data, torn), OPTIONS, print)
    lost = cell_uri(torn, plan(data, torn).dataset, COLUMN, plan(data, torn).dataset.shards[0])
    Path(lost).unlink()
    outcome = filling.fill(torn, plan(data, torn), OPTIONS, print)
    assert outcome.images == SIZES[0]
    assert contents(torn) == contents(calm)


@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_cannot_be_read_is_reported_and_the_rest_goes_on(data, tmp_path) -> None:
    broken = data / "00001.tar"
    broken.write_bytes(broken.read_bytes()[:2048])
    store = str(tmp_path / "store")
    outcome = filling.fill(store, plan(data, store), OPTIONS, print)
    assert outcome.plan.missing == ((1,),)
    assert list(outcome.failures) == [1]
    assert "ReadError" in outcome.failures[1]
    assert len(contents(store)) == 2


@pytest.mark.usefixtures("local_ray")
@pytest.mark.slow
def test_a_store_that_is_away_for_the_next_plan_costs_another_round_and_nothing_else(
    data, tmp_path, monkeypatch
) -> None:
    store, planned = str(tmp_path / "store"), plan_cells
    first, attempts = planned(store, find_dataset([str(data)]), [COLUMN]), iter(range(100))

    def flaky(*of: object) -> Plan:
        if next(attempts) == 0:
            raise storage.UnavailableError("SlowDown (503)")
        return planned(*of)

    monkeypatch.setattr(filling, "plan_cells", flaky)
    outcome = filling.fill(store, first, OPTIONS, print)
    assert (outcome.plan.pending, outcome.broken, len(contents(store))) == (0, None, 3)


@pytest.mark.usefixtures("local_ray")
def test_a_device_that_is_lost_between_rounds_ends_the_walk_with_its_reason(data, tmp_path, monkeypatch) -> None:
    """From the first it is an error; later it was a spot machine's."""
    store, walk = str(tmp_path / "store"), filling.walk
    monkeypatch.setattr(filling, "walk", lambda *of: walk(*of[:3], RunOptions(device="cuda")))
    monkeypatch.setattr(shares, "_NODE_SECONDS", 0.6)
    outcome = filling.fill(store, plan(data, store), OPTIONS, print)
    assert outcome.plan.pending == 3
    assert "no node for --device cuda has joined" in (outcome.broken or "")


@pytest.mark.usefixtures("local_ray")
def test_a_store_that_refuses_for_a_while_costs_another_round_and_nothing_else(data, tmp_path, monkeypatch) -> None:
    store, put = str(tmp_path / "store"), storage.put
    attempts = iter(range(100))

    def flaky(uri: str, content: bytes) -> bool:
        if next(attempts) == 1:
            raise OSError(f"{uri}: SlowDown (503)")
        return put(uri, content)

    monkeypatch.setattr(storage, "put", flaky)
    outcome = filling.fill(store, plan(data, store), OPTIONS, print)
    assert (outcome.plan.pending, outcome.broken, len(contents(store))) == (0, None, 3)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.slow
def test_a_store_that_refuses_for_ever_ends_the_walk_with_its_reason(data, tmp_path, monkeypatch) -> None:
    def full(uri: str, _: bytes) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "put", full)
    store = str(tmp_path / "store")
    outcome = filling.fill(store, plan(data, store), OPTIONS, print)
    assert outcome.plan.pending == 3
    assert "No space left" in (outcome.broken or "")


@pytest.mark.usefixtures("local_ray")
def test_another_jobs_cell_of_other_bytes_stands_and_is_reported(data, tmp_path, monkeypatch) -> None:
    store = str(tmp_path / "store")
    planned = plan(data, store)
    theirs = cell_uri(store, planned.dataset, COLUMN, planned.dataset.shards[2])
    storage.put(theirs, b"theirs")
    outcome = filling.fill(store, planned, OPTIONS, print)
    assert outcome.plan.pending == 0
    assert "exists with other content" in outcome.failures[2]
    assert storage.read(theirs) == b"theirs"


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [1, pytest.param(4, marks=pytest.mark.thorough)])
def test_the_walk_ends_on_any_number_of_cores(cpus, data, tmp_path) -> None:
    command = [sys.executable, "-c", ALONE, str(cpus), str(data), str(tmp_path / "store")]
    assert subprocess.run(command, cwd=ROOT, timeout=200).returncode == 0
    assert len(contents(str(tmp_path / "store"))) == 3


@pytest.mark.usefixtures("local_ray")
def test_what_looks_at_the_scores_sees_every_row_and_may_end_the_run(data, tmp_path) -> None:
    store, ended = str(tmp_path / "store"), str(tmp_path / "ended")
    seen: list[str] = []
    filling.fill(
        store, plan(data, store), OPTIONS, print, lambda columns, scores: seen.extend(scores["key"].to_pylist())
    )
    assert sorted(seen) == [f"{i:03d}" for i in range(12)]

    def refuse(*_: object) -> None:
        raise ValueError("the labels are wrong")

    with pytest.raises(ValueError, match="the labels are wrong"):
        filling.fill(ended, plan(data, ended), OPTIONS, print, refuse)
    assert filling.fill(ended, plan(data, ended), OPTIONS, print).plan.pending == 0
    assert contents(ended) == contents(store)
