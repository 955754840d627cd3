"""An S3 server that gives the answers that a test has written down, for errors that no server here makes.

It also checks what holds for every error: one line, no secret. It keeps no objects.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipelines import storage
from tests.support.servers import BUCKET

LEAK = "hunter2"
URI = f"s3://{BUCKET}/cells/a"
CALLS: dict[str, Callable[[str], Any]] = {
    "read": storage.read,
    "list": lambda uri: list(storage.list_objects(uri)),
    "replace": lambda uri: storage.replace(uri, b"x"),
    "remove": lambda uri: storage.remove([uri]),
}


class ScriptedStore:
    """Gives the `answers` in order, the last for ever.

    Of what was asked, `requests` has the headers, `asked` method, path and query, and `bodies` the rest.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.requests: list[Message] = []
        self.asked: list[str] = []
        self.bodies: list[bytes] = []

    def answer(self, status: int, code: str, **headers: str) -> None:
        """Answer next with an S3 error that says what nobody should repeat."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        said = f"<Message>key {LEAK}\nis wrong</Message><AWSAccessKeyId>{LEAK}</AWSAccessKeyId>"
        self.answers.append((status, names, f"<Error><Code>{code}</Code>{said}</Error>" if status != 200 else ""))


@contextmanager
def scripted_store() -> Iterator[ScriptedStore]:
    """A `ScriptedStore` that listens at its `url`."""
    store = ScriptedStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # answers `Expect: 100-continue`, which the SDK else waits for

        def answer(self) -> None:
            store.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            store.asked.append(f"{self.command} {self.path}")
            store.requests.append(self.headers)
            status, headers, body = store.answers.pop(0) if len(store.answers) > 1 else store.answers[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield store
    server.shutdown()
    server.server_close()
    thread.join()


def message_of(error: type[Exception], call: Callable[[], Any]) -> str:
    """What `call` raises says: one short line, without secrets."""
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 450
    for secret in (LEAK, os.environ.get("AWS_SECRET_ACCESS_KEY") or LEAK, "Signature="):
        assert secret not in said
    return said
