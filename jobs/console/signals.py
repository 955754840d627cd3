"""Shutdown on SIGINT and SIGTERM: Ctrl-C, a spot notice, `ray job stop`, `docker stop`.

A job unwinds as it does after KeyboardInterrupt, and the process is ended if that takes too long. Nothing is saved
here: committed cells and checkpoints are what a job continues from.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_GRACE_SECONDS = 15.0
"""Time to unwind. A spot notice leaves two minutes, but `docker stop` kills after ten seconds by default."""
_ENDING = (signal.SIGINT, signal.SIGTERM)
_received: set[int] = set()
"""Signals of the current job. The exception does not tell: while Ray waits, Ray raises its own KeyboardInterrupt."""


@contextmanager
def on_signals() -> Iterator[None]:
    """While this lasts, SIGINT and SIGTERM stop the job: it may unwind for some seconds and is then ended.

    Signal handlers belong to Python's main thread; in any other thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    previous_handlers = {number: signal.getsignal(number) for number in _ENDING}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    previous_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    over = threading.Event()
    watcher = threading.Thread(target=_enforce_deadline, args=(reading, over), name="deadline", daemon=True)
    watcher.start()
    try:
        install_handlers()
        yield
    finally:
        over.set()
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        os.close(writing)
        watcher.join()
        os.close(reading)


def install_handlers() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt; call again after ray.init, which installs its own handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            signal.signal(number, _raise)


def by_sigterm() -> bool:
    """Whether the current job, or the last one that ended, received SIGTERM."""
    return signal.SIGTERM in _received


def _raise(number: int, _frame: FrameType | None) -> None:
    _received.add(number)
    raise KeyboardInterrupt


def _enforce_deadline(reading: int, over: threading.Event) -> None:
    """End the process `_GRACE_SECONDS` after a signal unless `over` is set; code that hangs in C runs no handler."""
    while numbers := os.read(reading, 1):
        if numbers[0] in _ENDING and not over.wait(_GRACE_SECONDS):
            os._exit(128 + numbers[0])
