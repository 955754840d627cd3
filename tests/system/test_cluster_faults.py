"""Parts of a cluster die while a job runs: the cells are those of a calm run, byte for byte, each sample there once.

A head without work on it and two workers, as Ray starts them, on this machine; drivers in processes of their own.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from ray._private.node import Node
from ray.cluster_utils import Cluster

from tests.support import faulty_runs, random_models
from tests.support.faulty_runs import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = 50
SHARDS = 40


@dataclass
class Site:
    """A cluster, shards, and the cells of a calm run."""

    cluster: Cluster
    data: str
    cells: dict[str, bytes]

    def start(self, store: Path, *flags: str) -> Driver:
        return faulty_runs.start(self.data, str(store), *flags, env={"RAY_ADDRESS": str(self.cluster.address)})

    def kill_worker(self, name: str, choose: Callable) -> str | None:
        """SIGKILL a process that runs `name` on some node; None where there is none now."""
        running = self.workers(name)
        if not running:
            return None
        victim = choose(running)
        victim.kill()
        return f"{name} {victim.pid}"

    def workers(self, name: str) -> list[psutil.Process]:
        """The processes that run `name` now."""
        return [process for node in self.nodes() for process in faulty_runs.workers(faulty_runs.raylet(node), name)]

    def nodes(self) -> list[Node]:
        """Worker nodes, in an order that is the same in every run."""
        return sorted(self.cluster.worker_nodes, key=lambda node: node.node_id)

    def kill_node(self, choose: Callable) -> str:
        """Kill all processes of a worker node at once, and have another come."""
        victim = choose(self.nodes())
        self.cluster.remove_node(victim, allow_graceful=False)
        self.cluster.add_node(num_cpus=2)
        return f"node {victim.node_id[:8]}"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = faulty_runs.new_cluster(0)
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, jpegs: list[bytes]) -> tuple[str, dict[str, bytes]]:
    """Shards, and the cells of an undisturbed run on a Ray of its own."""
    folder = tmp_path_factory.mktemp("calm")
    data, store = faulty_runs.put_shards(str(folder / "val"), jpegs, SHARDS), str(folder / "out")
    code, said = faulty_runs.start(data, store, env={"RAY_ADDRESS": "local"}).wait()
    assert code == 0, said
    assert faulty_runs.keys(store) == sorted(str(i) for i in range(SHARDS * faulty_runs.IMAGES))
    return data, faulty_runs.committed(store)


@pytest.fixture
def site(cluster: Cluster, calm: tuple[str, dict[str, bytes]]) -> Site:
    return Site(cluster, *calm)


@pytest.mark.thorough
def test_workers_and_nodes_that_die_in_turn_cost_what_was_in_flight(site: Site, tmp_path: Path) -> None:
    """In one run: a reading and a decoding task, an actor in mid-batch, each worker node."""
    store = tmp_path / "torn"
    driver = site.start(store)
    for cells, kill in [
        (0, lambda: site.kill_worker("MapBatches(read_shards)", lambda running: running[0])),
        (0, lambda: site.kill_worker("MapBatches(decode_chunks)", lambda running: running[0])),
        (1, lambda: site.kill_worker("MapWorker(MapBatches(ScorerActor))", lambda running: running[0])),
        (8, lambda: site.kill_node(lambda nodes: nodes[0])),
        (16, lambda: site.kill_node(lambda nodes: nodes[-1])),
    ]:
        faulty_runs.wait_until(lambda cells=cells: len(faulty_runs.committed(str(store))) >= cells, driver)
        faulty_runs.wait_until(kill, driver)
    code, said = driver.wait()
    assert code == 0, said
    assert faulty_runs.committed(str(store)) == site.cells


def test_a_sweep_that_loses_every_worker_node_in_turn_has_the_cells_of_a_calm_one(
    cluster: Cluster, tmp_path: Path, jpegs: list[bytes]
) -> None:
    cards = random_models.put_cards(tmp_path / "weights", ["resnest14d", "selecsls42b"])
    models = f"{faulty_runs.MODEL},{random_models.PREFIX}resnest14d,{random_models.PREFIX}selecsls42b"
    data = faulty_runs.put_shards(str(tmp_path / "val"), jpegs, 20)
    calm, torn = str(tmp_path / "calm"), str(tmp_path / "torn")
    site = Site(cluster, data, {})

    def start(store: str) -> Driver:
        env = {"RAY_ADDRESS": str(cluster.address)}
        return faulty_runs.start(data, store, "--cards", str(cards), env=env, models=models)

    code, said = start(calm).wait()
    assert code == 0, said
    driver, first = start(torn), site.nodes()
    for number, node in enumerate(first):
        faulty_runs.wait_until(lambda number=number: len(faulty_runs.committed(torn)) >= 6 + 20 * number, driver)
        site.kill_node(lambda _, node=node: node)
    assert len(faulty_runs.committed(torn)) < 60
    code, said = driver.wait()
    assert code == 0, said
    assert not set(first) & set(site.nodes())
    assert faulty_runs.committed(torn) == faulty_runs.committed(calm)
    assert len(faulty_runs.committed(torn)) == 60


@pytest.mark.thorough
@pytest.mark.timeout(1500)
def test_fifty_kills_at_random_change_nothing(site: Site, tmp_path: Path, capsys) -> None:
    """Drivers, workers and nodes; when a store is complete, the kills go on with the next."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    stores, driver, began = [tmp_path / "torn0"], None, time.monotonic()
    while kills.total() < KILLS:
        driver = driver or site.start(stores[-1])
        time.sleep(chance.uniform(0.2, 4))
        if driver.process.poll() is not None:
            finish(driver, stores[-1], site)
            stores.append(tmp_path / f"torn{len(stores)}")
            driver = None
            continue
        kind = chance.choices(["worker", "node", "driver"], [7, 1, 1])[0]
        if kind != "driver" and not site.workers("MapBatches"):
            continue
        if kind == "driver":
            driver.kill()
            driver = None
        elif kind == "node":
            site.kill_node(chance.choice)
        else:
            site.kill_worker("MapBatches", chance.choice)
        kills[kind] += 1
    finish(driver or site.start(stores[-1]), stores[-1], site)
    with capsys.disabled():
        print(f"\nseed {seed}: {dict(kills)}, {len(stores)} runs completed, {time.monotonic() - began:.0f} s")  # noqa: T201


def finish(driver: Driver, store: Path, site: Site) -> None:
    """Let the driver end, or others after it that do what it could not, and check."""
    code, said = driver.wait()
    for _ in range(3):
        if code == 3:
            code, said = site.start(store).wait()
    assert code == 0, said
    assert faulty_runs.committed(str(store)) == site.cells


@pytest.mark.thorough
def test_two_drivers_that_fill_the_same_cells_agree(site: Site, tmp_path: Path) -> None:
    store = tmp_path / "shared"
    drivers = [site.start(store), site.start(store)]
    for driver in drivers:
        code, said = driver.wait()
        assert code == 0, said
    assert faulty_runs.committed(str(store)) == site.cells


def test_sigterm_ends_a_job_within_20_seconds_and_keeps_what_is_committed(site: Site, tmp_path: Path) -> None:
    store = tmp_path / "stopped"
    for cells in (0, 3):
        driver = site.start(store)
        faulty_runs.wait_until(lambda cells=cells: len(faulty_runs.committed(str(store))) >= cells, driver)
        time.sleep(0 if cells else 5)
        before, told = faulty_runs.committed(str(store)), time.monotonic()
        driver.process.send_signal(signal.SIGTERM)
        code, said = driver.wait()
        assert (code, time.monotonic() - told < 20) == (143, True), said
        assert before.items() <= faulty_runs.committed(str(store)).items() <= site.cells.items()
    code, said = site.start(store).wait()
    assert code == 0, said
    assert faulty_runs.committed(str(store)) == site.cells


def test_an_old_driver_without_a_head_writes_over_nothing(site: Site, tmp_path: Path, capsys) -> None:
    """An old driver that wakes after its head is gone writes over nothing of the next job."""
    store = tmp_path / "headless"
    old = site.start(store)
    faulty_runs.wait_until(lambda: faulty_runs.committed(str(store)), old)
    old.process.send_signal(signal.SIGSTOP)
    for node in [*site.nodes(), site.cluster.head_node]:
        site.cluster.remove_node(node, allow_graceful=False)
    before = faulty_runs.committed(str(store))
    assert before.items() < site.cells.items()
    site.cluster = faulty_runs.new_cluster(2)
    try:
        code, said = site.start(store).wait()
    finally:
        site.cluster.shutdown()
    assert code == 0, said
    assert faulty_runs.committed(str(store)) == site.cells
    left, woken = left_behind(store), time.monotonic()
    old.process.send_signal(signal.SIGCONT)
    code, said = old.wait(200)
    with capsys.disabled():
        print(f"\nthe driver ended {time.monotonic() - woken:.0f} s after it woke with exit code {code}")  # noqa: T201
    assert code != 0, said
    assert left_behind(store) == left


def left_behind(store: Path) -> dict[str, bytes]:
    """All that readers of the store see: everything but what runs say of themselves."""
    files = [path for path in store.rglob("*") if path.is_file() and "runs" not in path.parts]
    return {str(path): path.read_bytes() for path in files}
