"""The child's side of the sandbox: it confines itself, then answers requests until its parent is gone.

Owns what parent and child say to each other: requests and answers of fixed size over a socket, the bytes of pictures,
pixels and reasons in a file in memory that both see. Refuses to survive: what goes wrong here ends this process, and
the parent says what became of it.
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
from typing import Any

import numpy as np

Work = Callable[[bytes, Sequence[Any]], list[np.ndarray] | str]
"""Encoded bytes -> one uint8 array (size, size, 3) for each of what is wanted (a geometry, say, as the module has it),
or the reason why not: a function of some module."""

REQUEST = struct.Struct("<QQQQ")
"""Its number, bytes of the shared file, of the picture in it, and of the pickled wants behind that."""
ANSWER = struct.Struct("<QQQ")
"""The number of the request, one of the following, and bytes in the shared file."""
READY, PIXELS, REASON, NO_MEMORY = range(4)
LONGEST_REASON = 1 << 16
ROOM = 1 << 20
"""Bytes of the shared file at first."""
_PR_SET_PDEATHSIG = 1


def serve(work: Work, file: int, memory: int) -> None:
    """The child's life: confine itself, then answer requests until its parent is gone."""
    connection = socket.socket(fileno=os.dup(0))
    _confine(memory)
    connection.sendall(ANSWER.pack(0, READY, 0))
    shared = mmap.mmap(file, ROOM)
    while request := connection.recv(REQUEST.size):
        number, room, picture, wanted = REQUEST.unpack(request)
        if room > len(shared):
            shared.close()
            shared = mmap.mmap(file, room)
        several = pickle.loads(shared[picture : picture + wanted])
        try:
            answer = _put(work(shared[:picture], several), shared)
        except MemoryError:
            answer = NO_MEMORY, 0
        connection.sendall(ANSWER.pack(number, *answer))


def _put(result: list[np.ndarray] | str, shared: mmap.mmap) -> tuple[int, int]:
    """Write the result into the shared file; the answer that says so."""
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
    """Nothing to read, nowhere to print, no core dump, a limit of memory, first to be killed, and with its parent."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    # Kills as soon as the thread that started this child is gone; one gone before is an end of requests.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = present + memory if hard == resource.RLIM_INFINITY else min(present + memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
