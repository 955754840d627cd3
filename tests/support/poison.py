"""The `sitecustomize` of a child that decodes: when Pillow opens a picture, what it says behind its end happens.

It stands for a codec that has a fault.
"""

import io
import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import PIL.Image

plain = PIL.Image.open


def opened(file: io.BytesIO, *args: Any, **options: Any) -> PIL.Image.Image:
    _, marked, name = file.getvalue().rpartition(b"POISON:")
    if marked:
        DOES[name]()
    return plain(file, *args, **options)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def flood() -> NoReturn:
    kept = []
    while True:
        kept.append(b"x" * (16 << 20))


def no_memory() -> NoReturn:
    raise MemoryError


def raises() -> NoReturn:
    raise BaseException("a fault of ours")


def once() -> None:
    died = Path(__file__).with_name("died")
    if not died.exists():
        died.touch()
        die(signal.SIGSEGV)


def babble() -> None:
    for standard in (1, 2):
        os.write(standard, bytes(range(256)) * 1000)


def nonsense() -> None:
    """An answer of the right size, by way of whatever is a socket."""
    for file in Path("/proc/self/fd").iterdir():
        if file.is_socket():
            os.write(int(file.name), b"?" * 24)


def deaf() -> None:
    os.closerange(3, 100)
    time.sleep(1000)


DOES = {
    b"segfault": lambda: die(signal.SIGSEGV),
    b"realtime": lambda: die(40),
    b"exits": lambda: os._exit(139),
    b"killed": lambda: die(signal.SIGKILL),
    b"stops": lambda: die(signal.SIGSTOP),
    b"sleeps": lambda: time.sleep(1000),
    b"flood": flood,
    b"nomemory": no_memory,
    b"raises": raises,
    b"once": once,
    b"babbles": babble,
    b"nonsense": nonsense,
    b"deaf": deaf,
}
PIL.Image.open = opened
