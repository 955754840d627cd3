"""How a job ends that is told to: by Ctrl-C, or by SIGTERM (a spot notice, `ray job stop`, a shutdown).

Owns these signals while a job runs, and how long it has to unwind. Refuses to save anything: committed cells
are.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_GRACE_SECONDS = 15.0
"""A spot instance has two minutes, but who runs `docker stop` waits ten seconds, or a little more."""
_ENDING = (signal.SIGINT, signal.SIGTERM)
_heard: set[int] = set()
"""Not told by what is raised: when a signal comes while Ray waits, that is a KeyboardInterrupt of Ray's own."""


@contextmanager
def on_signals() -> Iterator[None]:
    """While this lasts, signals end the job: it may unwind for some seconds, whatever hangs, and is then ended.

    Only Python's main thread hears signals; in another this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _heard.clear()
    before = {number: signal.getsignal(number) for number in _ENDING}
    heard, told = os.pipe()
    os.set_blocking(told, False)
    listener = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(heard, over), name="deadline", daemon=True)
    watcher.start()
    try:
        heed()
        yield
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(listener)
        os.close(told)
        watcher.join()
        os.close(heard)


def heed() -> None:
    """Raise KeyboardInterrupt of a signal, from now on; to be said again after Ray has started, which sets handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            signal.signal(number, _raise)


def by_sigterm() -> bool:
    """Whether the job, or the last one if it is over, was told to end by SIGTERM. It unwinds as of Ctrl-C."""
    return signal.SIGTERM in _heard


def _raise(number: int, _frame: FrameType | None) -> None:
    _heard.add(number)
    raise KeyboardInterrupt


def _watch(heard: int, over: threading.Event) -> None:
    """End the process some seconds after a signal: one that hangs in C does not even hear it."""
    while numbers := os.read(heard, 1):
        if numbers[0] in _ENDING and not over.wait(_GRACE_SECONDS):
            os._exit(128 + numbers[0])
