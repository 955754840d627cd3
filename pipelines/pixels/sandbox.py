"""The child process in which pictures are decoded: one that kills, hangs or floods its decoder costs one row.

Owns the child: its start, its limits of memory and time, its replacement, and the reason of a picture that it did not
survive twice. Each process that decodes has one, from first use to its own end. Refuses to know how pictures are
decoded, and to blame a picture for a child that cannot be started. It is no wall against hostile code, only against
faults. What the child does is in `sandbox_child`.
"""

import atexit
import contextlib
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.pixels.sandbox_child import ANSWER, LONGEST_REASON, NO_MEMORY, PIXELS, REASON, REQUEST, ROOM, serve

QUARANTINED = "quarantined: "
"""Prefix of the error of an image that killed, hung or flooded the process that decodes it, twice."""
_SECONDS = 20.0
"""For one picture, which takes 10 ms. Twice this and two starts are less than a minute."""
_START_SECONDS = 60.0
_ENDING_SECONDS = 5.0
_MEMORY = 3 << 30
"""Bytes beyond what a child has when it is ready. The largest picture that we decode, 50 million pixels of 16 bits,
needs 1 GiB; a codec that asks for more gets a MemoryError, before the kernel has to choose whom to kill."""
_TRIES = 2
"""A child may also die because the machine is short of memory: a picture is to blame if it kills a fresh one too."""


class _LostError(Exception):
    """The child is of no more use; the message says what became of it."""


class Sandbox:
    """Runs the `decode` of a module in a child process, one picture at a time. Only the child imports the module."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._child: _Child | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def decode(self, encoded: bytes | memoryview, wants: Sequence[Any], into: Sequence[np.ndarray]) -> str | None:
        """Fill `into` with the pixels of `encoded`, or leave it and return the reason why not.

        Each array is for one of `wants`, which the module understands: a geometry, say.

        Raises:
            RuntimeError: if no child can be started.
        """
        with self._lock:
            fate = ""
            for _ in range(_TRIES):
                child = self._living()
                try:
                    return child.decode(encoded, wants, into)
                except _LostError as error:
                    fate = str(error)
                    self._stop()
                except BaseException:  # a cancelled task is interrupted anywhere; the answer must be nobody else's
                    self._stop()
                    raise
            return QUARANTINED + fate

    def close(self) -> None:
        """End the child, if there is one; the next picture starts another."""
        with self._lock:
            self._stop()

    def _living(self) -> "_Child":
        """The child, or another where it died between two pictures, which is neither's fault."""
        if self._child is None or self._child.process.poll() is not None:
            self._stop()
            self._child = _Child(self._module)
        return self._child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop()


class _Child:
    """A running child: its stdin is a socket for requests and answers, their bytes are in a file that both map.

    So neither a pipe is between pictures and pixels, nor is anything that is printed taken for an answer.
    """

    def __init__(self, module: str) -> None:
        self._requests = 0
        self._socket, theirs = socket.socketpair()
        self._file = _memory_file()
        self._shared = _resized(self._file, ROOM)
        paths = [str(Path(__file__).parents[2]), *sys.path]
        program = (
            f"import sys; sys.path[:] = {paths!r}; from {module} import decode; "
            f"from {serve.__module__} import serve; serve(decode, {self._file}, {_MEMORY})"
        )
        command = [sys.executable, "-c", program]
        try:
            with theirs:
                self.process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, pass_fds=[self._file]
                )
        except OSError as error:  # no memory, too many processes
            self._release()
            raise RuntimeError(f"the process that decodes pictures cannot be started: {error}") from error
        try:
            self._answer(_START_SECONDS)
        except _LostError as error:
            self.stop()
            raise RuntimeError(f"the process that decodes pictures cannot be started: {error}") from error

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._release()

    def _release(self) -> None:
        self._socket.close()
        self._shared.close()
        os.close(self._file)

    def decode(self, encoded: bytes | memoryview, wants: Sequence[Any], into: Sequence[np.ndarray]) -> str | None:
        wanted = pickle.dumps(list(wants))
        pixels = sum(array.nbytes for array in into)
        end = len(encoded) + len(wanted)
        room = max(end, pixels, LONGEST_REASON)
        if room > len(self._shared):
            self._shared.close()
            self._shared = _resized(self._file, room)
        self._shared[: len(encoded)] = encoded
        self._shared[len(encoded) : end] = wanted
        self._requests += 1
        with contextlib.suppress(OSError):  # that it is dead, the answer says
            self._socket.sendall(REQUEST.pack(self._requests, len(self._shared), len(encoded), len(wanted)))
        kind, size = self._answer(_SECONDS)
        if kind == REASON and size <= LONGEST_REASON:
            return self._shared[:size].decode(errors="replace")
        if kind == NO_MEMORY:
            raise _LostError(f"out of memory (needs more than {_MEMORY / 2**30:g} GiB)")
        if (kind, size) != (PIXELS, pixels):
            raise _LostError("crashed the decoder (its answer is nonsense)")
        start = 0
        for array in into:
            array[:] = np.frombuffer(self._shared, np.uint8, array.size, start).reshape(array.shape)
            start += array.size
        return None

    def _answer(self, seconds: float) -> tuple[int, int]:
        self._socket.settimeout(seconds)
        try:
            answer = self._socket.recv(ANSWER.size)
        except TimeoutError:
            raise _LostError(f"timed out (no result in {seconds:g} s)") from None
        except ConnectionError:
            answer = b""
        if len(answer) < ANSWER.size:
            raise _LostError(f"crashed the decoder ({self._ending()})")
        number, kind, size = ANSWER.unpack(answer)
        if number != self._requests:
            raise _LostError("crashed the decoder (its answer is nonsense)")
        return kind, size

    def _ending(self) -> str:
        try:
            status = self.process.wait(_ENDING_SECONDS)  # its socket is closed a moment before
        except subprocess.TimeoutExpired:
            return "it closed its socket"
        names = {number.value: number.name for number in signal.Signals}
        return f"exit status {status}" if status >= 0 else names.get(-status, f"signal {-status}")


def _memory_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("picture")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _resized(file: int, size: int) -> mmap.mmap:
    os.ftruncate(file, size)
    return mmap.mmap(file, size)
