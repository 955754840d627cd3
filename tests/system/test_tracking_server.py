"""A real MLflow server: away while the evaluation runs, there when it is asked to be told later."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from jobs import evaluate
from jobs.steps import provenance
from tests.support import faulty_runs
from tests.support.servers import free_port

QUIET: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen]]:
    """Starts `mlflow server` on a port of loopback and waits until it answers."""
    servers: list[subprocess.Popen] = []

    def start(port: int) -> subprocess.Popen:
        address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        places = [
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/server.db",
            "--artifacts-destination",
            str(tmp_path / "a"),
        ]
        command = [sys.executable, "-m", "mlflow", "server", *address, *places]
        servers.append(subprocess.Popen(command, **QUIET, start_new_session=True))
        until = time.monotonic() + 90
        while not answers(port):
            assert time.monotonic() < until and servers[-1].poll() is None
            time.sleep(0.5)
        return servers[-1]

    yield start
    for server in servers:
        tell(server, signal.SIGCONT, signal.SIGTERM)
        server.wait(20)


def tell(server: subprocess.Popen, *signals: signal.Signals) -> None:
    """Send signals to the server and its workers; to what is gone, none."""
    for each in signals:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, each)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.mark.usefixtures("local_ray")
@pytest.mark.slow
def test_a_server_that_was_away_is_told_later_with_its_artefacts(
    tmp_path, write_tar, jpegs, start_server, capsys
) -> None:
    write_tar(tmp_path / "val" / "00000.tar", [("a.jpg", jpegs[0]), ("a.cls", b"1")])
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    flags = ["--models", "efficientnet_lite0", "--data", str(tmp_path / "val"), "--store", str(tmp_path / "out")]
    flags += ["--tracking-uri", server]
    assert evaluate.main(flags) == 0
    assert "--retrack logs them" in capsys.readouterr().err
    start_server(port)
    for _ in range(2):
        assert evaluate.main([*flags, "--retrack"]) == 0
    client = MlflowClient(server)
    (run,) = faulty_runs.logged_below_sweeps(server)
    assert run.data.metrics["n"] == 1
    assert {artefact.path for artefact in client.list_artifacts(run.info.run_id)} == {
        *("summary.json", "per_class.parquet", "errors.parquet", "reliability.png"),
    }


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    "fault", [pytest.param(signal.SIGKILL, marks=pytest.mark.thorough), signal.SIGSTOP], ids=["killed", "hangs"]
)
def test_a_server_lost_in_mid_run_costs_less_than_15_seconds_and_is_told_later(
    fault, tmp_path, write_tar, jpegs, start_server, capsys, monkeypatch
) -> None:
    for shard in range(8):
        write_tar(tmp_path / "val" / f"{shard}.tar", [("a.jpg", jpegs[shard]), ("a.cls", b"1")])
    port, seconds = free_port(), []
    server, track = start_server(port), provenance.track

    def timed(*of: Any) -> None:
        began = time.monotonic()
        track(*of)
        seconds.append(time.monotonic() - began)

    def lose() -> None:
        while not list(tmp_path.glob("out/cells/**/*.parquet")):
            time.sleep(0.01)
        tell(server, fault)

    monkeypatch.setattr(provenance, "track", timed)
    loser = threading.Thread(target=lose, daemon=True)
    loser.start()
    flags = ["--models", "efficientnet_lite0", "--data", str(tmp_path / "val"), "--store", str(tmp_path / "out")]
    flags += ["--tracking-uri", f"http://127.0.0.1:{port}"]
    assert evaluate.main(flags) == 0
    loser.join(30)
    assert "--retrack logs them" in capsys.readouterr().err
    assert seconds[0] < 15
    tell(server, signal.SIGCONT)
    if fault == signal.SIGKILL:
        start_server(port)
    assert evaluate.main([*flags, "--retrack"]) == 0
    (run,) = faulty_runs.logged_below_sweeps(f"http://127.0.0.1:{port}")
    assert run.data.metrics["n"] == 8
    with capsys.disabled():
        print(f"\nlost to a server that is {fault.name}: {seconds[0]:.1f} s")  # noqa: T201
