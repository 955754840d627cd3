"""The store fails in every way that it can while a job runs: the cells are those of a calm run, byte for byte.

Jobs, workers and this module reach a real S3 server through one proxy, which puts the faults in.
"""

import time
import uuid
from dataclasses import dataclass

import pytest

from tests.support import faulty_runs
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

EVERYTHING = [
    Fault("status", probability=0.2, argument=503),
    Fault("reset", probability=0.1),
    Fault("lost_ack", match="^(PUT|POST)", probability=0.2),
    Fault("stall", probability=0.05, argument=1),
    Fault("truncate", match="^GET", probability=0.1),
]


@dataclass(frozen=True)
class Calm:
    """A run without faults: its data, cells by name, and seconds."""

    data: str
    cells: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def calm(s3_server: str, network: FaultProxy, address: str, jpegs: list[bytes]) -> Calm:
    """Of two runs the second, since the first also fetches what the next ones find."""
    data = faulty_runs.put_shards(f"{s3_server}/{uuid.uuid4().hex}/val", jpegs)
    for _ in range(2):
        store, began = new_store(s3_server), time.monotonic()
        code, said = run(data, store, address)
        assert code == 0, said
    assert faulty_runs.keys(store) == sorted(str(i) for i in range(faulty_runs.SHARDS * faulty_runs.IMAGES))
    return Calm(data, faulty_runs.committed(store), time.monotonic() - began)


def new_store(bucket: str) -> str:
    return f"{bucket}/{uuid.uuid4().hex}"


def run(data: str, store: str, address: str, *flags: str) -> tuple[int, str]:
    return faulty_runs.start(data, store, *flags, env={"RAY_ADDRESS": address}).wait()


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault("status", probability=0.2, argument=503)], marks=pytest.mark.thorough),
        pytest.param([Fault("status", probability=0.2, argument=500)], marks=pytest.mark.thorough),
        pytest.param([Fault("reset", probability=0.2)], marks=pytest.mark.thorough),
        pytest.param([Fault("lost_ack", match="^(PUT|POST)", probability=0.4)], marks=pytest.mark.thorough),
        pytest.param([Fault("stall", match="^GET", probability=0.2, argument=1)], marks=pytest.mark.thorough),
        pytest.param([Fault("truncate", match="^GET", probability=0.3)], marks=pytest.mark.thorough),
        pytest.param(
            [Fault("hang", match="tar", times=1, argument=30), Fault("hang", match="^PUT", times=1, argument=30)],
            marks=pytest.mark.thorough,
        ),
        EVERYTHING,
    ],
    ids=["503", "500", "resets", "lost acks", "stalls", "cut bodies", "hangs", "everything"],
)
def test_a_store_that_fails_costs_time_and_nothing_else(
    faults: list[Fault], calm: Calm, network: FaultProxy, s3_server: str, address: str, capsys
) -> None:
    store, began = new_store(s3_server), time.monotonic()
    network.counts.clear()
    network.faults[:] = faults
    code, said = run(calm.data, store, address)
    network.faults.clear()
    seconds = time.monotonic() - began
    with capsys.disabled():
        print(f"\n{dict(network.counts)}: {seconds:.1f} s, calm {calm.seconds:.1f} s")  # noqa: T201
    assert code == 0, said
    assert network.counts
    assert faulty_runs.committed(store) == calm.cells


def test_a_cell_spoilt_on_its_way_up_is_named_in_the_end_and_computed_again_when_told(
    calm: Calm, network: FaultProxy, s3_server: str, address: str
) -> None:
    """This server does not hold what it gets against the checksum that comes with it; real S3 refuses it at once."""
    store = new_store(s3_server)
    network.faults[:] = [Fault("flip_up", match="^PUT .*/cells/", times=2)]
    code, said = run(calm.data, store, address)
    assert (code, "is damaged: " in said, "--retry-failed" in said) == (3, True, True), said
    code, said = run(calm.data, store, address, "--retry-failed")
    assert (code, said.count("again    s3://")) == (0, 2), said
    assert faulty_runs.committed(store) == calm.cells


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_driver_killed_at_any_storage_operation_loses_nothing(
    kind: str, calm: Calm, network: FaultProxy, s3_server: str, address: str
) -> None:
    """One store; each run goes on where the last was killed, and is killed at another operation."""
    store = new_store(s3_server)
    name = store.rpartition("/")[2]
    before: dict[str, bytes] = {}
    for match in [
        f"PUT .*{name}/.menagerie",
        f"GET .*list-type=2.*{name}",
        "GET .*/00003.tar",
        f"PUT .*{name}/runs",
        *[f"PUT .*{name}/cells/"] * 3,
        f"PUT .*{name}/reports/.*results.json",
        f"PUT .*{name}/reports/.*results.csv",
    ]:
        driver = faulty_runs.start(calm.data, store, env={"RAY_ADDRESS": address})
        network.faults[:] = [Fault(kind, match=match, times=1, call=driver.process.kill)]
        code, said = driver.wait()
        assert code == -9, f"{match} was never asked for: {said}"
        network.faults.clear()
        now = faulty_runs.committed(store)
        assert before.items() <= now.items() <= calm.cells.items()
        before = now
    code, said = run(calm.data, store, address)
    assert code == 0, said
    assert faulty_runs.committed(store) == calm.cells
