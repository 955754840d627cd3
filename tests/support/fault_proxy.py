"""A proxy that puts faults of networks and stores between an S3 client and a real S3 server; on loopback by default.

It speaks HTTP/1.1 on both sides. What is not at fault arrives as it was sent: method, path, body, and every header
that a signature may cover, Host too. It does not support TLS or HTTP trailers, and holds each body whole.
Answers are framed anew by Content-Length, so that a client's connection outlives a server that closes its own; a server
that is gone looks like a reset connection.

    with FaultProxy("http://127.0.0.1:9000") as proxy:
        proxy.faults.append(Fault("status", match="^PUT /bucket/cells/", argument=503, times=2))
        boto3.client("s3", endpoint_url=proxy.url)
"""

import re
import select
import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from random import Random
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from tests.support.fault import IN_THE_BODY, INSTEAD, Fault

_CODES = {
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "ConditionalRequestConflict",
    500: "InternalError",
    503: "SlowDown",
}
_SERVER_SECONDS = 60
"""After so long without a byte a server counts as gone."""


class FaultProxy:
    """Forwards what reaches `url` to `target`, with `faults`; the first that applies to a request is its only one.

    It listens at `address`. `faults` may change at any time; `seen` has the requests in order as "METHOD /path?query",
    `asked` the same with the address of who asked before each, `counts` the faults that happened, by kind.
    """

    def __init__(self, target: str, seed: int = 0, address: str = "127.0.0.1") -> None:
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.closing = threading.Event()
        self.target = (urlsplit(target).hostname or "127.0.0.1", urlsplit(target).port or 80)
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = _Server((address, 0), lambda *of: _Conversation(self, *of))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://{address}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._server.server_close()  # waits for the conversations, which now read the end of their sockets

    def choose(self, name: str, client: str, has_body: bool) -> Fault | None:
        """The fault that the request `name` of `client` is to suffer; it counts from now on."""
        passed_over = (IN_THE_BODY if name.startswith("HEAD ") else set()) | (set() if has_body else {"flip_up"})
        with self._lock:
            self.seen.append(name)
            self.asked.append((client, name))
            for fault in self.faults:
                if fault.kind in passed_over or fault.times == 0 or not re.search(fault.match, name):
                    continue
                if self._random.random() < fault.probability:
                    self._count(fault, 1)
                    return fault
        return None

    def take_back(self, fault: Fault) -> None:
        """Uncount a fault that could not happen."""
        with self._lock:
            self._count(fault, -1)

    def flip(self, body: bytes) -> bytes:
        """`body` with one bit, anywhere, flipped."""
        with self._lock:
            bit = self._random.randrange(8 * len(body))
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        return bytes(flipped)

    @contextmanager
    def ending(self, connection: socket.socket) -> Iterator[None]:
        """While this lasts, leaving the proxy ends `connection`."""
        with self._lock:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def _count(self, fault: Fault, step: int) -> None:
        self.counts[fault.kind] += step
        if fault.times is not None:
            fault.times -= step


class _Head(NamedTuple):
    status: int
    reason: str
    headers: list[tuple[str, str]]


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128


class _Conversation(BaseHTTPRequestHandler):
    """One client's connection: request after request, over one connection to the server."""

    protocol_version = "HTTP/1.1"  # keeps connections, answers `Expect: 100-continue`
    disable_nagle_algorithm = True

    def __init__(self, proxy: FaultProxy, *of: Any) -> None:
        self.proxy = proxy
        self.upstream = HTTPConnection(*proxy.target, timeout=_SERVER_SECONDS)
        super().__init__(*of)

    def handle(self) -> None:
        with closing(self.upstream), self.proxy.ending(self.connection), suppress(ConnectionError):  # it may go away
            super().handle()

    def answer(self) -> None:
        self.target = self.requestline.split(" ")[1]  # self.path is a normalised one
        sent = self._body()
        fault = self.proxy.choose(f"{self.command} {self.target}", self.client_address[0], bool(sent))
        if self.proxy.closing.is_set():
            self.close_connection = True
        elif fault and fault.kind in INSTEAD:
            self._refuse(fault)
        else:
            self._forward(sent, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        if "Transfer-Encoding" not in self.headers:
            return self._exactly(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self._line().partition(b";")[0], 16):
            chunks.append(self._exactly(size + 2)[:-2])
        while self._line().strip():
            pass
        return b"".join(chunks)

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the client went away within a request")
        return line

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionResetError("the client went away within a request")
        return data

    def _refuse(self, fault: Fault) -> None:
        if fault.kind == "reset":
            self._reset()
        elif fault.kind == "hang":
            self.proxy.closing.wait(fault.argument)
            self.close_connection = True
        else:
            status = HTTPStatus(int(fault.argument or 503))
            code = _CODES.get(status, status.phrase.replace(" ", ""))
            body = b"<Error><Code>%s</Code><Message>Injected</Message></Error>" % code.encode()
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            self._send(_Head(status, status.phrase, headers), b"" if self.command == "HEAD" else body)

    def _forward(self, sent: bytes, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        if fault and fault.call and kind == "before":
            fault.call()
        try:
            head, body = self._exchange(self.proxy.flip(sent) if kind == "flip_up" else sent)
        except (OSError, HTTPException):
            return self._reset()
        if fault and fault.call and kind == "after":
            fault.call()
        if kind == "lost_ack":
            return self._reset()
        if fault and kind in IN_THE_BODY and body:
            return self._spoil(head, body, fault)
        if fault and kind in IN_THE_BODY:
            self.proxy.take_back(fault)
        return self._send(head, body)

    def _exchange(self, sent: bytes) -> tuple[_Head, bytes]:
        """What the server answers."""
        if self.upstream.sock and select.select([self.upstream.sock], [], [], 0)[0]:
            self.upstream.close()  # nothing is due between two exchanges: this is the end of the stream
        if not self.upstream.sock:
            self.upstream.connect()
        self.upstream.putrequest(self.command, self.target, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect"}:  # which we have answered
                self.upstream.putheader(name, value)
        with self.proxy.ending(self.upstream.sock):
            with suppress(BrokenPipeError, ConnectionResetError):  # it may refuse before it has read everything
                self.upstream.endheaders(sent, encode_chunked="Transfer-Encoding" in self.headers)
            answer = self.upstream.getresponse()
            body = answer.read()
        headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in {"connection", "transfer-encoding"}]
        if self.command != "HEAD" and answer.status not in {204, 304}:
            headers = [(n, v) for n, v in headers if n.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        return _Head(answer.status, answer.reason, headers), body

    def _spoil(self, head: _Head, body: bytes, fault: Fault) -> None:
        half, argument = len(body) // 2, fault.argument or 1
        if fault.kind == "bitflip":
            self._send(head, self.proxy.flip(body))
        elif fault.kind == "slow":
            self._send(head, b"")
            step = max(1, int(argument / 20))
            for start in range(0, len(body), step):
                self.proxy.closing.wait(step / argument)
                self.wfile.write(body[start : start + step])
        elif fault.kind == "truncate":
            self._send(head, body[:half])
            self.close_connection = True
        else:
            self._send(head, body[:half])
            self.proxy.closing.wait(argument)
            self.wfile.write(body[half:])

    def _send(self, head: _Head, body: bytes) -> None:
        self.send_response_only(head.status, head.reason)
        for name, value in head.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # the socket closes with the last of its files; a shutdown first would end it in good order
        self.connection.close()
        self.close_connection = True
