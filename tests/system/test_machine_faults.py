"""The machine runs out of something while a job runs, or its data changes: what is committed stays, the rest comes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import faulty_runs
from tests.support.faulty_runs import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GIB = 1 << 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, jpegs: list[bytes]) -> str:
    """Who changes a shard puts it back."""
    return faulty_runs.put_shards(str(tmp_path_factory.mktemp("data") / "val"), jpegs, shards=40)


@pytest.fixture(scope="module")
def calm(data: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The cells of an undisturbed run."""
    store = tmp_path_factory.mktemp("calm")
    code, said = start(data, store).wait()
    assert code == 0, said
    return faulty_runs.committed(str(store))


def start(data: str, store: Path, **env: str) -> Driver:
    return faulty_runs.start(data, str(store), env={"RAY_ADDRESS": "local", **env})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.thorough
def test_a_full_disk_ends_the_job_with_a_reason_and_with_room_it_goes_on(data, calm, small_disk: Path) -> None:
    store, ballast = small_disk / "out", small_disk / "ballast"
    five_cells = sum(-(-len(cell) // 4096) * 4096 for cell in list(calm.values())[:5])
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - five_cells - 10 * 4096))
    code, said = start(data, store).wait()
    assert code in {2, 3}, said
    assert "No space left on device" in said
    assert faulty_runs.committed(str(store)).items() < calm.items()
    assert not list(small_disk.rglob(".menagerie-*"))
    ballast.unlink()
    code, said = start(data, store).wait()
    assert code == 0, said
    assert faulty_runs.committed(str(store)) == calm


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("cut", marks=pytest.mark.thorough),
        "at a member's end",
        pytest.param("gone", marks=pytest.mark.thorough),
    ],
)
def test_a_shard_that_is_spoilt_is_named_and_the_rest_goes_on(data: str, calm, tmp_path: Path, how: str) -> None:
    shard = Path(data, "00003.tar")
    content, times = shard.read_bytes(), (shard.stat().st_atime_ns, shard.stat().st_mtime_ns)
    member = 512 + -(-len_of_first(content) // 512) * 512
    spoilt = {
        "cut": content[:1000],
        "at a member's end": content[:member],
        "empty": b"",
        "of another kind": b"x" * 9999,
    }
    store = tmp_path / "out"
    driver = start(data, store)
    faulty_runs.wait_until(lambda: list(store.glob("runs/*/*.json")), driver)  # planned, and nothing is read yet
    shard.write_bytes(spoilt[how]) if how in spoilt else shard.unlink()
    code, said = driver.wait()
    assert (code, f"failed   {shard}: " in said) == (3, True), said
    assert faulty_runs.committed(str(store)) == {name: cell for name, cell in calm.items() if "00003-" not in name}
    shard.write_bytes(content)
    os.utime(shard, ns=times)
    code, said = start(data, store).wait()
    assert code == 0, said
    assert faulty_runs.committed(str(store)) == calm


def len_of_first(tar: bytes) -> int:
    """The size of its first member, in bytes."""
    return int(tar[124:135], 8)


HOG = "import sys, time; held = b'x' * int(sys.argv[1]); print(len(held), flush=True); time.sleep(float(sys.argv[2]))"


@pytest.mark.thorough
def test_workers_that_ray_kills_for_memory_cost_what_was_in_flight(data, calm, tmp_path: Path, capsys) -> None:
    """Another process takes the memory for ten seconds: Ray kills worker after worker until it gives it back."""
    memory = psutil.virtual_memory()
    if memory.available < 10 * GIB:
        pytest.skip("less than 10 GiB of memory are free here")
    threshold = (memory.total - memory.available + 5 * GIB) / memory.total
    store = tmp_path / "out"
    driver = start(data, store, RAY_memory_usage_threshold=f"{threshold:.3f}", RAY_memory_monitor_refresh_ms="100")
    faulty_runs.wait_until(lambda: faulty_runs.committed(str(store)), driver)
    hog = subprocess.Popen([sys.executable, "-c", HOG, str(6 * GIB), "10"], stdout=subprocess.DEVNULL)
    code, said = driver.wait(300)
    hog.wait(60)
    assert "killed due to the node running low on memory" in said
    with capsys.disabled():
        print(f"\nexit code {code} after {time.monotonic() - driver.started:.0f} s")  # noqa: T201
    for _ in range(2):
        if code == 3:
            code, said = start(data, store).wait()
    assert code == 0, said
    assert faulty_runs.committed(str(store)) == calm
