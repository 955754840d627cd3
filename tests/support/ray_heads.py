"""Heads of real Ray clusters as users start them: `ray start`, with dashboard, jobs API and token, on loopback.

Each head gets ports and a home of its own. It is never ended by `ray stop`, which ends every Ray on the machine.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.autoscaler._private.util import prepare_config

from tests.support import faulty_runs
from tests.support.faulty_runs import Driver

_BIN = Path(sys.executable).parent
_STORE_BYTES = 200_000_000


@dataclass(frozen=True)
class Head:
    """A head, with the environment that its users need to reach it."""

    process: subprocess.Popen[bytes]
    home: Path
    address: str
    dashboard: str
    env: Mapping[str, str]

    def ray(self, *arguments: str, **env: str) -> Driver:
        """`ray ARGUMENTS` by a user of the cluster."""
        return self.run(str(_BIN / "ray"), *arguments, **env)

    def run(self, *command: str, **env: str) -> Driver:
        """A command by a user of the cluster."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return Driver(subprocess.Popen(command, cwd=faulty_runs.ROOT, env={**os.environ, **self.env, **env}, **pipes))

    def get(self, path: str) -> Any:
        """What the dashboard answers a user who has the token."""
        token = Path(self.env["RAY_AUTH_TOKEN_PATH"]).read_text()
        answer = requests.get(self.dashboard + path, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def stop(self) -> None:
        """End it and all that it has started."""
        self.process.terminate()  # and all that it has started goes with it, as a rule
        running = [process for process in psutil.process_iter() if _is_of(process, self.process.pid)]
        _, alive = psutil.wait_procs(running, timeout=10)
        for process in alive:
            process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def start(*options: str, port: int | None = None, **env: str) -> Head:
    """`ray start --head` with `options`; ready when this returns."""
    home = Path(tempfile.mkdtemp(prefix="head"))  # pytest's own folders are too long for the names of sockets
    token = home / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    port, dashboard = port or _free_port(), _free_port()
    address, url = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": address,
        "RAY_API_SERVER_ADDRESS": url,
        "PATH": f"{_BIN}:{os.environ['PATH']}",
    }
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    ports += ["--node-ip-address=127.0.0.1", "--dashboard-agent-listen-port=0"]
    command = [str(_BIN / "ray"), "start", "--head", "--block", *ports, f"--temp-dir={home}/ray", *options]
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    started = {name: value for name, value in own.items() if name not in {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"}}
    with (home / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**inherited, **started, **env}, stdout=log, stderr=log, cwd=home, start_new_session=True
        )
    head = Head(process, home, address, url, own)
    until = time.monotonic() + 90
    while "Ray runtime started" not in (said := (home / "head.log").read_text()):
        if process.poll() is not None or time.monotonic() > until:
            head.stop()
            raise AssertionError(said)
        time.sleep(0.2)
    return head


def start_elastic(folder: Path, config: Path) -> Head:
    """A head whose autoscaler starts the node types of a cluster.yaml on this machine, and ends them when idle."""
    prepared = prepare_config(yaml.safe_load(config.read_text()))
    types = {
        name: {
            "resources": {**kind["resources"], "object_store_memory": _STORE_BYTES},
            "node_config": {},
            "min_workers": 0,
            "max_workers": min(2, kind.get("max_workers", 0)),
        }
        for name, kind in prepared["available_node_types"].items()
    }
    types["ray.head.default"] = types.pop(prepared["head_node_type"])  # the fake provider knows its head by this name
    port = _free_port()
    provider = {
        "type": "external",  # as fake_multinode, whose defaults are not in Ray's wheel
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": f"127.0.0.1:{port}",
        "launch_multiple": True,
        "head_node_id": FAKE_HEAD_NODE_ID,
    }
    commands = {name: [] for name in prepared if name.endswith("_commands")}
    fake = {**prepared, **commands, "provider": provider, "available_node_types": types, "max_workers": 4}
    fake |= {"head_node_type": "ray.head.default", "file_mounts": {}, "idle_timeout_minutes": 0.2}
    (folder / "fake.json").write_text(json.dumps(fake))
    env = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    options = ["--num-cpus=0", f"--autoscaling-config={folder}/fake.json", f"--object-store-memory={_STORE_BYTES}"]
    return start(*options, port=port, **env)


def _is_of(process: psutil.Process, session: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getsid(process.pid) == session
    return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
