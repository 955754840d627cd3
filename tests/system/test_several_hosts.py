"""Several hosts, each with an address, a home and a cache of weights of its own, fill the cells that one machine fills.

A head without work on it and two workers, as `ray start` makes them, with a token without which nobody joins. The store
is reached through a proxy at their switch, which sees who asks for what.
"""

import os
import re
import secrets
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from pipelines import storage
from tests.support import faulty_runs, random_models
from tests.support.fault_proxy import FaultProxy
from tests.support.faulty_runs import Driver
from tests.support.hosts import CannotError, Host, Hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHARDS, CPUS, PORT = 24, 2, 6379
STEPS = {"MapBatches(read_shards)", "MapBatches(decode_chunks)", "MapWorker(MapBatches(ScorerActor))"}
PATIENCE = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
}
"""With a host that says nothing any more, and with answers that it owes: by default Ray has minutes of it."""


@dataclass(frozen=True)
class Site:
    """A cluster of hosts, of which the first is its head, and what they are to evaluate."""

    hosts: Hosts
    network: FaultProxy
    data: str
    weights: str
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def head(self) -> Host:
        return self.hosts.each[0]

    @property
    def workers(self) -> list[Host]:
        return self.hosts.each[1:]

    def on(self, host: Host, module: str, *options: str) -> subprocess.Popen[str]:
        """`python -m MODULE` there."""
        token = host.home / "token"
        token.touch(0o600)
        token.write_text(self.token)
        env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")} | PATIENCE
        env |= {"AWS_ENDPOINT_URL": self.network.url, "PYTHONPATH": str(faulty_runs.ROOT), "RAY_AUTH_MODE": "token"}
        env |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_ADDRESS": f"{self.head.address}:{PORT}"}
        return self.hosts.popen(host, sys.executable, "-m", module, *options, env=env)

    def join(self, hosts: Sequence[Host], *options: str) -> None:
        """`ray start` on each."""
        nodes = []
        for host in hosts:
            own = ["--block", f"--node-ip-address={host.address}", f"--temp-dir={host.home}/ray"]
            nodes.append(self.on(host, "ray.scripts.scripts", "start", *own, *options))
        for node in nodes:
            said = ""
            while "Ray runtime started" not in said:
                line = node.stdout and node.stdout.readline()
                assert line, said
                said += line

    def start(self, store: str) -> Driver:
        """The evaluation, from the head."""
        return Driver(self.on(self.head, "jobs.evaluate", *self.options(store)))

    def options(self, store: str) -> list[str]:
        chosen = ["--models", faulty_runs.MODEL, "--checkpoint", self.weights, "--data", self.data, "--store", store]
        return [*chosen, "--batch-size", str(faulty_runs.IMAGES), "--tracking-uri", "none"]

    def ran(self, host: Host) -> Counter[str]:
        """In how many processes of a host each task or actor was, as Ray's logs there have it."""
        logs = [path.read_text() for path in (host.home / "ray").glob("session_2*/logs/worker-*.out")]
        return Counter(name for log in logs for name in set(re.findall("^:(?:task|actor)_name:(.+)$", log, re.M)))


@dataclass(frozen=True)
class Far:
    """What an evaluation on several hosts came to: for each host what it asked of the store, sent, and ran."""

    cells: dict[str, bytes]
    asked: list[list[str]]
    sent: list[int]
    ran: list[Counter[str]]


@pytest.fixture(scope="module")
def site(s3_server: str, jpegs: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = f"{s3_server}/{uuid.uuid4().hex}"
    data = faulty_runs.put_shards(f"{folder}/val", jpegs, SHARDS)
    (weights,) = random_models.put_cards(tmp_path_factory.mktemp("cards"), [faulty_runs.MODEL]).parent.glob("*.pth")
    storage.put_file(f"{folder}/given/{weights.name}", weights)
    with ExitStack() as stack:
        try:
            hosts = stack.enter_context(Hosts(3))
            with hosts.at_the_switch():
                network = FaultProxy(os.environ["AWS_ENDPOINT_URL"], address=hosts.address)
        except CannotError as error:
            pytest.skip(f"there can be no hosts on this machine: {error}")
        stack.enter_context(network)
        site = Site(hosts, network, data, f"{folder}/given/{weights.name}")
        site.join([site.head], "--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")
        site.join(site.workers, f"--address={site.head.address}:{PORT}", f"--num-cpus={CPUS}")
        yield site


@pytest.fixture(scope="module")
def calm(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The cells of a run on this machine alone, with a home of its own too."""
    store = str(tmp_path_factory.mktemp("calm"))
    home = tmp_path_factory.mktemp("home")
    code, said = faulty_runs.begin(
        "evaluate", *site.options(store), env={"RAY_ADDRESS": "local", "HOME": str(home)}
    ).wait()
    assert code == 0, said
    return faulty_runs.committed(store)


@pytest.fixture(scope="module")
def far(site: Site) -> Far:
    """The first evaluation on the hosts, whose caches are empty."""
    store, before = site.data + "-far", [site.hosts.sent(host) for host in site.hosts.each]
    code, said = site.start(store).wait()
    assert code == 0, said
    return Far(
        cells=faulty_runs.committed(store),
        asked=[[what for who, what in site.network.asked if who == host.address] for host in site.hosts.each],
        sent=[site.hosts.sent(host) - sent for host, sent in zip(site.hosts.each, before, strict=True)],
        ran=[site.ran(host) for host in site.hosts.each],
    )


def test_the_cells_are_those_of_one_machine(far: Far, calm: dict[str, bytes]) -> None:
    assert len(calm) == SHARDS
    assert far.cells == calm


def test_each_worker_reads_decodes_and_scores_and_the_head_does_not(far: Far) -> None:
    head, *workers = [STEPS & set(names) for names in far.ran]
    assert (head, workers) == (set(), [STEPS, STEPS])
    read = [{request for request in asked if request.startswith("GET") and "/val/0" in request} for asked in far.asked]
    assert len(read[0]) <= 8  # it looks at a few, to know what samples and labels are like
    assert len(read[1] | read[2]) == SHARDS
    assert all(read[1:])


def test_weights_are_fetched_once_a_host_and_kept_in_its_own_cache(site: Site, far: Far) -> None:
    assert sum(ran["MapWorker(MapBatches(ScorerActor))"] for ran in far.ran) == CPUS * len(site.workers)
    ranges = -(-storage.stat(site.weights).size // (8 << 20))
    once = [sum(request.startswith("GET") and "/given/" in request for request in asked) for asked in far.asked]
    assert once == [ranges] * 3  # the head's is for the digest that the others check
    cached = [list(host.home.glob(".cache/menagerie/weights/*.pth")) for host in site.hosts.each]
    assert [len(files) for files in cached] == [0, 1, 1]


def test_fewer_bytes_cross_than_there_are_pixels(far: Far, capsys: pytest.CaptureFixture[str]) -> None:
    """Where scoring is the slower step, Ray Data gives the oldest chunk to whoever has room, wherever that is."""
    pixels = SHARDS * faulty_runs.IMAGES * 224 * 224 * 3
    with capsys.disabled():
        print(f"\nworkers sent {sum(far.sent[1:]) / 1e6:.1f} MB; {pixels / 1e6:.1f} MB of pixels were decoded")  # noqa: T201
    assert sum(far.sent[1:]) < pixels


def test_a_host_whose_cable_is_pulled_costs_what_was_in_flight(
    site: Site, calm: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """The last one, since the cluster is a host short afterwards."""
    store = site.data + "-torn"
    driver = site.start(store)
    faulty_runs.wait_until(lambda: len(faulty_runs.committed(store)) >= SHARDS // 6, driver)
    site.hosts.pull(site.workers[-1])
    before, pulled = faulty_runs.committed(store), time.monotonic()
    code, said = driver.wait(300)
    with capsys.disabled():
        print(f"\n{len(before)} cells before, the end {time.monotonic() - pulled:.0f} s after the cable was pulled")  # noqa: T201
    assert code == 0, said
    assert before.items() < calm.items()
    assert faulty_runs.committed(store) == calm
