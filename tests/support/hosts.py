"""Hosts on this machine: network namespaces with an address and a home each, on one switch, with cables to be pulled.

`Hosts` ends every process that runs in a namespace, and leaves none of them. Nothing leads out of the switch, so two
runs may use the same addresses. Neither Ray nor what is served to the hosts is known here.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_NETWORK = "10.213.87"
_HOMES = "/tmp"  # a test's own folder is too deep: Ray has sockets in there, whose paths have 107 characters at most


class CannotError(RuntimeError):
    """Why there can be no hosts on this machine."""


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace, the switch's end of its cable, its address and home."""

    namespace: str
    port: str
    address: str
    home: Path


class Hosts:
    """So many hosts while this lasts, in `each`; entering raises `CannotError` where namespaces cannot be made."""

    address = f"{_NETWORK}.1"
    """The switch's own, at which something may be served to all hosts: see `at_the_switch`."""

    def __init__(self, count: int) -> None:
        name = f"menagerie-{os.getpid()}"
        self._homes = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_HOMES))
        self._switch = f"{name}-switch"
        self._started = ExitStack()
        self.each = [Host(f"{name}-{i}", f"port{i}", f"{_NETWORK}.{i + 2}", self._homes / str(i)) for i in range(count)]

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*(host.namespace for host in self.each), self._switch]:
            with suppress(CannotError):  # it was never made
                _empty(name)
                _ip("netns", "delete", name)
        self._started.close()
        shutil.rmtree(self._homes, ignore_errors=True)

    def popen(self, host: Host, *command: str, env: dict[str, str]) -> subprocess.Popen[str]:
        """`command` on a host; its environment is `env`, and where its home is. All that it says is in its `stdout`."""
        inside, own = ["ip", "netns", "exec", host.namespace], {"HOME": str(host.home), "PATH": os.environ["PATH"]}
        pipes: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started = subprocess.Popen([*inside, *command], env=own | env, cwd=host.home, **pipes)
        return self._started.enter_context(started)

    def sent(self, host: Host) -> int:
        """Bytes that have come from the host to the switch."""
        return int(_ip("netns", "exec", self._switch, "cat", f"/sys/class/net/{host.port}/statistics/rx_bytes"))

    def pull(self, host: Host) -> None:
        """Pull its cable: nothing arrives any more, and nobody is told."""
        _ip("-n", self._switch, "link", "set", host.port, "down")

    @contextmanager
    def at_the_switch(self) -> Iterator[None]:
        """While this lasts, sockets that this thread makes are the switch's; they stay so."""
        with Path("/proc/thread-self/ns/net").open() as here, Path("/run/netns", self._switch).open() as there:
            try:
                _enter(there.fileno())
                yield
            finally:
                _enter(here.fileno())

    def _build(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "address", "add", f"{self.address}/24", "dev", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for host in self.each:
            host.home.mkdir()
            _ip("netns", "add", host.namespace)
            _ip("-n", self._switch, "link", "add", host.port, "type", "veth", "peer", "eth0", "netns", host.namespace)
            _ip("-n", self._switch, "link", "set", host.port, "master", "bridge", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                _ip("-n", host.namespace, "link", "set", link, "up")
            # It leads nowhere, but programs ask from which of their addresses they would go out.
            _ip("-n", host.namespace, "route", "add", "default", "via", self.address)


def _ip(*arguments: str) -> str:
    try:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise CannotError("it has no `ip` (iproute2)") from error
    except subprocess.CalledProcessError as error:
        raise CannotError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise CannotError(f"setns: {os.strerror(ctypes.get_errno())}")


def _empty(namespace: str) -> None:
    """Kill whatever runs in a namespace; it may start others meanwhile."""
    until = time.monotonic() + 20
    while (found := _ip("netns", "pids", namespace).split()) and time.monotonic() < until:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
