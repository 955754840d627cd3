"""kill -9 of the driver, at three moments: what was committed stays and is not redone, the end is as if undisturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SHARDS = 12


@pytest.fixture
def data(tmp_path, write_tar, jpegs) -> Path:
    """Twelve shards of five labelled pictures each."""
    for shard in range(SHARDS):
        members = []
        for i in range(5 * shard, 5 * shard + 5):
            members += [(f"{i}.jpg", jpegs[i % len(jpegs)]), (f"{i}.cls", b"%d" % i)]
        write_tar(tmp_path / "val" / f"{shard:05d}.tar", members)
    return tmp_path / "val"


def start(data: Path, store: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "jobs.evaluate", "--models", "efficientnet_lite0", "--data", str(data)]
    command += ["--store", str(store), "--batch-size", "5", "--tracking-uri", "none"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def committed(store: Path) -> dict[str, tuple[bytes, int]]:
    """Content and modification time of each cell, by name."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in store.rglob("cells/**/*.parquet")
        if not path.name.startswith(".")
    }


def kill_when(driver: subprocess.Popen, store: Path, cells: int) -> None:
    """SIGKILL once so many cells are committed; with 0, while the scorers are starting."""
    until = time.monotonic() + 120
    while len(committed(store)) < cells and time.monotonic() < until:
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.01)
    if not cells:
        time.sleep(9)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(420)
def test_a_driver_killed_at_three_moments_loses_nothing_and_redoes_nothing(data, tmp_path) -> None:
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    before: dict[str, tuple[bytes, int]] = {}
    for cells in (0, 2, 5):
        kill_when(start(data, torn), torn, cells)
        now = committed(torn)
        assert len(now) < SHARDS
        assert before.items() <= now.items()
        before = now
    for store in (torn, calm):
        driver = start(data, store)
        said = driver.communicate()[1].decode()
        assert driver.returncode == 0, said
    final = committed(torn)
    assert before.items() <= final.items()
    assert {name: content for name, (content, _) in final.items()} == {
        name: content for name, (content, _) in committed(calm).items()
    }
    reports = [sorted(path.read_bytes() for path in store.rglob("reports/**/*.*")) for store in (torn, calm)]
    assert reports[0] == reports[1]
