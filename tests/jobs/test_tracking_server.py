"""A real MLflow server: away while the evaluation runs, there when it is asked to be told later."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs import evaluate


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Starts `mlflow server` on a port of loopback and waits until it answers."""
    servers: list[subprocess.Popen] = []

    def start(port: int) -> None:
        address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        places = [
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/server.db",
            "--artifacts-destination",
            str(tmp_path / "a"),
        ]
        command = [sys.executable, "-m", "mlflow", "server", *address, *places]
        servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until = time.monotonic() + 90
        while not answers(port):
            assert time.monotonic() < until and servers[0].poll() is None
            time.sleep(0.5)

    yield start
    for server in servers:
        server.terminate()
        server.wait(20)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.usefixtures("local_ray")
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
    experiment = client.get_experiment_by_name("menagerie")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["n"] == 1
    assert {artefact.path for artefact in client.list_artifacts(run.info.run_id)} == {
        *("summary.json", "per_class.parquet", "errors.parquet", "reliability.png"),
    }
