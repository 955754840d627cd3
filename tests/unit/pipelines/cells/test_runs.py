"""Covers pipelines.cells.runs: records are read back as written, never delay the work, and damaged ones are named."""

import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipelines import storage
from pipelines.cells import runs
from pipelines.cells.runs import Intervals, Run, RunRecorder
from pipelines.records import Dataset, Shard
from pipelines.storage import s3_retries
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.paths import ROOT
from tests.support.processes import wait_until

SHARD = Shard(name="00000", uri="/d/00000.tar", size=100, etag="e")
DATASET = Dataset(name="my-data-2", source="/d", shards=(SHARD,))
OTHER = Dataset(name="other", source="/o", shards=(SHARD,))
INTERVALS = Intervals()
RUN = Run(sources=("/d",), limit=None, host="here", pid=1, started=1000.0, updated=1100.0, cells=4, pending=10)


def recorder(store: str, dataset: Dataset = DATASET, *, intervals: Intervals = INTERVALS) -> RunRecorder:
    return RunRecorder(store, dataset, ("/d",), None, pending=10, intervals=intervals)


def ended(store: str, dataset: Dataset = DATASET) -> Run:
    written = recorder(store, dataset)
    written.close("finished", {})
    return written.run


def puts(proxy: FaultProxy) -> int:
    return sum(name.startswith("PUT ") for name in proxy.seen)


def test_a_record_is_read_back_as_it_was_written(store: str) -> None:
    written = RunRecorder(store, DATASET, ("s3://b/a", "s3://b/b.tar"), 50, pending=10)
    assert runs.of_dataset(store, DATASET) == [written.run]
    written.note(cells=4, images=90, bad=2, in_flight=3, rate=1.5)
    written.close("unfinished", {"/d/00000.tar": "cut, or dämaged"})
    assert runs.of_dataset(store, DATASET) == [written.run]
    assert (written.run.sources, written.run.limit, written.run.cells) == (("s3://b/a", "s3://b/b.tar"), 50, 4)
    assert runs.of_dataset(store, OTHER) == []


def test_sources_are_recorded_such_that_another_process_finds_them(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = RunRecorder("store", DATASET, ("data", "s3://b/x"), None, pending=1)
    written.close("finished", {})
    assert written.run.sources == (str(tmp_path / "data"), "s3://b/x")


def test_runs_come_the_earliest_first(tmp_path, monkeypatch) -> None:
    for now in (2e9, 1e9, 1.5e9):
        clock = SimpleNamespace(time=lambda now=now: now, strftime=time.strftime, gmtime=time.gmtime)
        monkeypatch.setattr(runs, "time", clock)
        ended(str(tmp_path))
    assert [run.started for run in runs.of_dataset(str(tmp_path), DATASET)] == [1e9, 1.5e9, 2e9]


def test_every_run_comes_with_the_name_of_its_dataset(store: str) -> None:
    expected = [(dataset.name, ended(store, dataset)) for dataset in (DATASET, OTHER)]
    assert runs.recorded(store) == expected
    assert runs.recorded(f"{store}/empty") == []


def test_notes_are_not_written_each_but_the_last_word_is(faulty_s3) -> None:
    uri, proxy = faulty_s3
    written = recorder(uri)
    for cells in range(1000):
        written.note(cells=cells)
    assert puts(proxy) == 1
    written.close("finished", {})
    assert puts(proxy) == 2
    (run,) = runs.of_dataset(uri, DATASET)
    assert (run.cells, run.state) == (999, "finished")


def test_a_run_that_has_nothing_to_note_is_heard_of_every_so_often(faulty_s3) -> None:
    uri, proxy = faulty_s3
    begin = time.monotonic()
    written = recorder(uri, intervals=Intervals(every_seconds=0.2))
    wait_until(lambda: puts(proxy) == 4)
    assert time.monotonic() - begin > 3 * 0.2
    (heard,) = runs.of_dataset(uri, DATASET)
    assert heard.updated > written.run.updated
    assert heard == replace(written.run, updated=heard.updated)
    written.close("finished", {})


def test_a_run_that_is_closed_is_never_written_again(tmp_path) -> None:
    written = recorder(str(tmp_path), intervals=Intervals(every_seconds=0.01))
    written.close("stopped", {})
    time.sleep(0.1)
    assert runs.of_dataset(str(tmp_path), DATASET) == [written.run]


@pytest.mark.parametrize(
    "fault", [Fault("hang", argument=30), Fault("reset"), Fault("status", argument=503)], ids=lambda fault: fault.kind
)
def test_a_store_that_is_away_holds_up_neither_notes_nor_the_end(faulty_s3, fault: Fault) -> None:
    uri, proxy = faulty_s3
    written = recorder(uri, intervals=Intervals(every_seconds=0.01, closing_seconds=0.2))
    proxy.faults.append(fault)
    begin = time.monotonic()
    for cells in range(1000):
        written.note(cells=cells)
    written.close("finished", {})
    assert time.monotonic() - begin < 5
    assert proxy.counts[fault.kind]


def test_a_process_does_not_wait_at_its_end_for_a_store_that_is_away(faulty_s3) -> None:
    uri, proxy = faulty_s3
    gone = Fault("hang", argument=60)
    proxy.faults.append(Fault("after", match="^PUT", times=1, call=lambda: proxy.faults.append(gone)))
    program = f"""
from pipelines.cells import runs
from pipelines.records import Dataset
intervals = runs.Intervals(closing_seconds=0.2)
runs.RunRecorder({uri!r}, Dataset(name="d", source="d", shards=()), (), None, 1, intervals).close("finished", {{}})
"""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert time.monotonic() - begin < 20
    assert proxy.counts["hang"]


def test_notes_go_on_when_the_store_is_back(faulty_s3, monkeypatch) -> None:
    monkeypatch.setattr(s3_retries, "_PATIENCE_SECONDS", 0)
    uri, proxy = faulty_s3
    written = recorder(uri, intervals=Intervals(every_seconds=0.05))
    proxy.faults.append(Fault("status", match="^PUT", times=3))  # as often as it is tried
    written.note(cells=1)
    wait_until(lambda: proxy.counts["status"] == 3)
    wait_until(lambda: runs.of_dataset(uri, DATASET)[0].cells == 1)
    written.close("finished", {})


def test_an_older_note_never_lands_on_a_newer_one(faulty_s3) -> None:
    uri, proxy = faulty_s3
    written = recorder(uri, intervals=Intervals(every_seconds=0.05))
    proxy.faults.append(Fault("before", match="^PUT", times=1, call=lambda: time.sleep(0.5)))
    written.note(cells=1)
    wait_until(lambda: puts(proxy) == 2)
    written.note(cells=2)
    written.close("finished", {})
    assert runs.of_dataset(uri, DATASET) == [written.run]
    assert puts(proxy) == 3


def test_a_first_write_that_fails_is_said(tmp_path) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="store"):
        recorder(str(tmp_path / "store"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"sources": 1}', b'{"sources": [], "new": 1}', b"\xff"])
def test_a_damaged_record_is_passed_over_or_said_by_name_where_one_must_know_all(tmp_path, content: bytes) -> None:
    store = str(tmp_path)
    sound = ended(store)
    damaged = f"{store}/runs/{DATASET.name}-{DATASET.digest}/0.json"
    storage.put(damaged, content)
    assert runs.of_dataset(store, DATASET) == [sound]
    with pytest.raises(ValueError, match=f"^{damaged}: not a record of a run; remove it if its data is gone: "):
        runs.recorded(store)


def test_only_a_run_that_says_it_is_running_is_silent_and_only_after_a_while() -> None:
    now = time.time()
    assert replace(RUN, updated=now - 100).silent == pytest.approx(100, abs=5)
    assert replace(RUN, updated=now - 10).silent == 0
    assert replace(RUN, updated=now - 100, state="finished").silent == 0


def test_the_eta_is_the_runs_own_less_what_has_passed_since_and_unknown_after_the_end() -> None:
    now = replace(RUN, updated=time.time() - 10, remaining=150.0)
    assert now.eta == pytest.approx(140, abs=1)
    assert replace(now, remaining=3.0).eta == 0
    assert replace(now, remaining=None).eta is None
    assert replace(now, state="stopped").eta is None
    assert replace(now, updated=time.time() - 1000).eta is None
