"""`make tracking` beside `make s3`: the real recipes in a copy of what they need, in the environment of these tests."""

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from pipelines.evaluation import tracking
from tests.support.paths import ROOT
from tests.support.servers import free_port

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Server:
    """What `make tracking` runs: its folder, what sourcing tracking/env sets, and make's process."""

    folder: Path
    url: str
    login: tuple[str, str]
    make: int

    def post(self, path: str, login: tuple[str, str] | None, host: str | None = None, **content: str) -> int:
        """The status of the answer."""
        url = f"{self.url}/api/2.0/mlflow/{path}"
        return requests.post(url, json=content, auth=login, headers={"Host": host}, timeout=30).status_code


def copied(folder: Path) -> Path:
    """A tree in which make finds its targets and an environment that is up to date."""
    (folder / ".venv").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for entry in Path(sys.prefix).iterdir():
        if entry.suffix != ".stamp":
            (folder / ".venv" / entry.name).symlink_to(entry)
    for target in ("s3", "tracking"):
        (folder / ".venv" / f"{target}.stamp").touch()
    return folder


def make(folder: Path, target: str, *variables: str) -> subprocess.Popen[bytes]:
    """Start a target in a group of its own, with nothing of ours in its environment; it prints into TARGET.log."""
    env = {name: value for name, value in os.environ.items() if not re.match("AWS_|MLFLOW_|MAKE|MFLAGS", name)}
    with (folder / f"{target}.log").open("wb") as log:
        command = ["make", target, *variables]
        return subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, started = copied(tmp_path_factory.mktemp("tree")), []
    ready = {"s3": ("PORT", "Starting s3 server"), "tracking": ("TRACKING_PORT", "Uvicorn running")}
    try:
        for target, (variable, words) in ready.items():
            started.append(make(folder, target, f"{variable}={free_port()}"))
            log, until = folder / f"{target}.log", time.monotonic() + 120
            while words not in log.read_text():
                assert started[-1].poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.2)
        said = subprocess.check_output(["sh", "-c", ". tracking/env && env"], cwd=folder, text=True)
        env = dict(line.split("=", 1) for line in said.splitlines() if line.startswith("MLFLOW_TRACKING_"))
        login = (env["MLFLOW_TRACKING_USERNAME"], env["MLFLOW_TRACKING_PASSWORD"])
        yield Server(folder, env["MLFLOW_TRACKING_URI"], login, started[-1].pid)
    finally:
        for made in started[::-1]:
            made.terminate()  # make tells its children and waits for them
            with contextlib.suppress(subprocess.TimeoutExpired):
                made.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(made.pid, signal.SIGKILL)


def test_without_the_login_no_run_is_made_and_no_artefact_is_stored(server: Server) -> None:
    artefact = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/0/a.txt"
    for login in (None, ("admin", "password1234"), ("admin", "")):
        assert server.post("runs/create", login, experiment_id="0") == 401
        assert requests.put(artefact, b"a", auth=login, timeout=30).status_code == 401
    assert server.post("runs/create", server.login, experiment_id="0") == 200


def test_a_record_of_ours_arrives_and_its_artefact_lies_in_the_bucket(server: Server, monkeypatch) -> None:
    for name in filter(re.compile("AWS_|MLFLOW_").match, list(os.environ)):
        monkeypatch.delenv(name)  # above all, the client has no key of the S3 server
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", server.login[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.login[1])
    files = {"a.json": b"{}", "large": os.urandom(9 << 20)}  # more than goes in one part
    record = tracking.Record(name="m", identity="0123abcd", params={}, metrics={"top1": 80.5}, artifacts=files)
    (run,) = tracking.log(server.url, "s3://menagerie/out", [record])
    (stored,) = (server.folder / "s3/data/menagerie/mlflow").glob(f"*/{run}/artifacts")
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == files
    assert tracking.logged(server.url)["0123abcd"].metrics == {"top1": 80.5}
    tracking.register(server.url, "student", run, {})
    assert server.post("model-versions/create", server.login, name="student", source="s3://menagerie/out") == 400


def test_a_foreign_host_is_refused(server: Server) -> None:
    for host, status in (("evil.example", 403), ("127.0.0.1:1", 403), (server.url.removeprefix("http://"), 200)):
        assert server.post("runs/search", server.login, host) == status


def test_secrets_are_their_owners_alone_and_in_no_output_or_command_line(server: Server) -> None:
    files = [server.folder / "tracking" / name for name in ("env", "auth.db", "mlflow.db")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    processes = psutil.Process(server.make).children(recursive=True)
    env = processes[0].environ()
    secrets = [server.login[1], env["AWS_SECRET_ACCESS_KEY"], env["MLFLOW_FLASK_SERVER_SECRET_KEY"]]
    said = "".join((server.folder / f"{target}.log").read_text() for target in ("s3", "tracking"))
    said += "".join(" ".join(process.cmdline()) for process in processes)
    assert "basic-auth" in said and not [secret for secret in secrets if not secret or secret in said]


def test_without_the_s3_server_it_says_what_to_start(tmp_path: Path) -> None:
    assert make(copied(tmp_path), "tracking").wait(60) == 2
    assert "in another shell: make s3" in (tmp_path / "tracking.log").read_text()
