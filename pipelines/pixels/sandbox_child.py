"""The child's side of the sandbox: it confines itself, then answers requests until its parent is gone.

Requests and answers have a fixed size and go over a socket; the bytes of images, pixels and reasons are in a file in
memory that both processes map. Any fault ends this process, and the parent reports what became of it.
"""

import contextlib
import ctypes
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Decode = Callable[[bytes, Sequence[object]], list[np.ndarray] | str]
"""The `decode` of a module: encoded bytes -> one uint8 array (size, size, 3) for each item of the second argument, such
as geometries, or the reason why there is none."""

REQUEST = struct.Struct("<QQQQ")
"""Its number, and bytes of the shared file, of the image in it, and of the pickled arguments after the image."""
ANSWER = struct.Struct("<QQQ")
"""The number of the request, one of the following kinds, and bytes in the shared file."""
READY, PIXELS, REASON, NO_MEMORY = range(4)
LONGEST_REASON = 1 << 16
ROOM = 1 << 20
"""Initial bytes of the shared file."""
_PR_SET_PDEATHSIG = 1


def serve(decode: Decode, file: int, memory: int) -> None:
    """Confine this process, then answer requests until the parent is gone.

    Args:
        decode: what is called for each image.
        file: descriptor of the shared file.
        memory: bytes that this process may allocate beyond what it has now.
    """
    connection = socket.socket(fileno=os.dup(0))
    _confine(memory)
    connection.sendall(ANSWER.pack(0, READY, 0))
    shared = mmap.mmap(file, ROOM)
    while request := connection.recv(REQUEST.size):
        number, room, image, arguments = REQUEST.unpack(request)
        if room > len(shared):
            shared.close()
            shared = mmap.mmap(file, room)
        wants = pickle.loads(shared[image : image + arguments])
        try:
            answer = _write_result(decode(shared[:image], wants), shared)
        except MemoryError:
            answer = NO_MEMORY, 0
        connection.sendall(ANSWER.pack(number, *answer))


def _write_result(result: list[np.ndarray] | str, shared: mmap.mmap) -> tuple[int, int]:
    """Write the result into the shared file; returns kind and bytes for the answer."""
    if isinstance(result, str):
        text = result.encode(errors="backslashreplace")[:LONGEST_REASON]
        shared[: len(text)] = text
        return REASON, len(text)
    end = 0
    for array in result:
        end += array.nbytes
        np.frombuffer(shared, np.uint8)[end - array.nbytes : end] = array.reshape(-1)
    return PIXELS, end


def _confine(memory: int) -> None:
    """No input or output, no core dump, a memory limit; killed first when memory runs out, and with the parent."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    # The signal comes as soon as the thread that started this child ends; if it ended before, the socket is closed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = present + memory if hard == resource.RLIM_INFINITY else min(present + memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
