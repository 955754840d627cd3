"""The child process in which images are decoded: an image that kills, hangs or floods its decoder costs one row.

The parent's side: start, limits, replacement, and the reason of an image that killed its child twice. Each process that
decodes has one child, from first use to its own end. No image is blamed for a child that cannot be started. The sandbox
protects from faults, not from hostile code. The child's side is `sandbox_child`.
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.pixels.sandbox_child import ANSWER, LONGEST_REASON, NO_MEMORY, PIXELS, REASON, REQUEST, ROOM, serve

QUARANTINED = "quarantined: "
"""Prefix of the error of an image that killed, hung or flooded the process that decodes it, twice."""
_TRIES = 2
"""A child may also die because the machine is short of memory: an image is to blame if it kills a fresh child too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a child process.

    Attributes:
        seconds: for one image, which takes 10 ms. Twice this and two starts are less than a minute.
        start_seconds: until it is ready.
        ending_seconds: from the end of its socket to its own end.
        memory: bytes beyond what it has when it is ready. The largest image that is decoded, 50 million pixels of 16
            bits, needs 1 GiB; a codec that needs more gets a MemoryError before the kernel kills some process.
    """

    seconds: float = 20.0
    start_seconds: float = 60.0
    ending_seconds: float = 5.0
    memory: int = 3 << 30


_LIMITS = Limits()


class _LostError(Exception):
    """The child cannot be used any more; the message says what became of it."""


class Sandbox:
    """Runs the `decode` of a module in a child process, one image at a time. The child imports the module."""

    def __init__(self, module: str, limits: Limits = _LIMITS) -> None:
        self._module, self._limits = module, limits
        self._child: _Child | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def decode(self, encoded: bytes | memoryview, wants: Sequence[object], into: Sequence[np.ndarray]) -> str | None:
        """Decode one image.

        Args:
            encoded: its bytes.
            wants: what is wanted of it, as the module's `decode` takes it, such as geometries.
            into: one uint8 array (size, size, 3) for each of `wants`, filled with its pixels.

        Returns:
            None, or the reason why `into` was not filled.

        Raises:
            RuntimeError: if no child can be started.
        """
        with self._lock:
            reason = ""
            for _ in range(_TRIES):
                child = self._living()
                try:
                    return child.decode(encoded, wants, into)
                except _LostError as error:
                    reason = str(error)
                    self._stop()
                except BaseException:  # a cancelled task stops anywhere; its answer must not reach the next image
                    self._stop()
                    raise
            return QUARANTINED + reason

    def close(self) -> None:
        """End the child, if there is one; the next image starts another."""
        with self._lock:
            self._stop()

    def _living(self) -> "_Child":
        """The child, or a new one if it died between two images, for which neither is to blame."""
        if self._child is None or self._child.process.poll() is not None:
            self._stop()
            self._child = _Child(self._module, self._limits)
        return self._child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop()


class _Child:
    """A running child. Its stdin is a socket for requests and answers; their bytes are in a file that both map.

    So images and pixels pass through no pipe, and nothing that the child prints is mistaken for an answer.
    """

    def __init__(self, module: str, limits: Limits) -> None:
        self._requests, self._limits = 0, limits
        self._socket, theirs = socket.socketpair()
        self._file = _memory_file()
        self._shared = _resized(self._file, ROOM)
        paths = [str(Path(__file__).parents[2]), *sys.path]
        program = (
            f"import sys; sys.path[:] = {paths!r}; from {module} import decode; "
            f"from {serve.__module__} import serve; serve(decode, {self._file}, {limits.memory})"
        )
        command = [sys.executable, "-c", program]
        try:
            with theirs:
                self.process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, pass_fds=[self._file]
                )
        except OSError as error:  # no memory, too many processes
            self._release()
            raise RuntimeError(f"the process that decodes images cannot be started: {error}") from error
        try:
            self._answer(limits.start_seconds)
        except _LostError as error:
            self.stop()
            raise RuntimeError(f"the process that decodes images cannot be started: {error}") from error

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._release()

    def _release(self) -> None:
        self._socket.close()
        self._shared.close()
        os.close(self._file)

    def decode(self, encoded: bytes | memoryview, wants: Sequence[object], into: Sequence[np.ndarray]) -> str | None:
        arguments = pickle.dumps(list(wants))
        pixels = sum(array.nbytes for array in into)
        end = len(encoded) + len(arguments)
        room = max(end, pixels, LONGEST_REASON)
        if room > len(self._shared):
            self._shared.close()
            self._shared = _resized(self._file, room)
        self._shared[: len(encoded)] = encoded
        self._shared[len(encoded) : end] = arguments
        self._requests += 1
        with contextlib.suppress(OSError):  # a dead child shows by its missing answer
            self._socket.sendall(REQUEST.pack(self._requests, len(self._shared), len(encoded), len(arguments)))
        kind, size = self._answer(self._limits.seconds)
        if kind == REASON and size <= LONGEST_REASON:
            return self._shared[:size].decode(errors="replace")
        if kind == NO_MEMORY:
            raise _LostError(f"out of memory (needs more than {self._limits.memory / 2**30:g} GiB)")
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
            status = self.process.wait(self._limits.ending_seconds)  # its socket is closed a moment before
        except subprocess.TimeoutExpired:
            return "it closed its socket"
        names = {number.value: number.name for number in signal.Signals}
        return f"exit status {status}" if status >= 0 else names.get(-status, f"signal {-status}")


def _memory_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("image")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _resized(file: int, size: int) -> mmap.mmap:
    os.ftruncate(file, size)
    return mmap.mmap(file, size)
