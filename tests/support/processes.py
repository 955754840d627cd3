"""Waiting for what happens elsewhere, and the memory of processes."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for `true`, at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.01)


def peak_memory(pid: int | str) -> int:
    """The most bytes that were resident since the process `pid`, or `self`, began, or since its peak was reset."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
