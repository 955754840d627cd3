"""Covers pipelines.pixels.sandbox: its child processes, how they start, what limits them, and when they end."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from pipelines.pixels import decode, sandbox
from pipelines.pixels.sandbox import QUARANTINED, Limits
from pipelines.records import Decoder
from tests.support.paths import ROOT
from tests.support.processes import peak_memory, wait_until
from tests.support.sandboxes import GEOMETRIES, REASONS, assert_rows, close, gone, limit, picture, poison, rows

pytestmark = pytest.mark.usefixtures("fresh_child")


def child(decoder: Decoder = "exact") -> subprocess.Popen:
    running = decode._SANDBOXES[decoder]._child
    assert running is not None
    return running.process


@pytest.mark.usefixtures("faults")
def test_the_same_child_goes_on_until_it_dies_and_is_then_replaced() -> None:
    assert_rows([picture(0), b"no image"], {1: "not an image: the bytes are not JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF"})
    first, files = child(), len(os.listdir("/proc/self/fd"))
    assert_rows([picture(1)], {})
    assert child() is first
    assert_rows([poison("killed"), picture(1)], {0: QUARANTINED + REASONS["killed"]})
    assert child() is not first
    assert gone(first.pid)
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_child_that_died_between_two_pictures_costs_neither() -> None:
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        assert_rows([picture(0)], {})
        dead = child()
        dead.send_signal(number)
        wait_until(lambda: gone(dead.pid))  # noqa: B023
        assert_rows([picture(1)], {})


def test_a_request_to_a_dead_child_says_what_it_died_of() -> None:
    assert_rows([picture(0)], {})
    running = decode._SANDBOXES["exact"]._child
    assert running is not None
    running.process.kill()
    running.process.wait()
    with pytest.raises(sandbox._LostError, match=r"^crashed the decoder \(SIGKILL\)$"):
        running.decode(picture(0), GEOMETRIES, [np.zeros((g.size, g.size, 3), np.uint8) for g in GEOMETRIES])


class Interrupted(BaseException):
    """What Ray raises in the middle of a task that it cancels."""


def test_a_picture_that_is_interrupted_leaves_no_answer_for_the_next() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (4000, 4000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    expected = rows([picture(1)])
    before = child()

    def interrupt(*_: object) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Interrupted):
            rows([buffer.getvalue()])
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert gone(before.pid)
    found = rows([picture(1)])
    assert found[1] == expected[1] == [None]
    assert all(np.array_equal(a, b) for a, b in zip(found[0], expected[0], strict=True))


def test_a_child_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(sandbox.subprocess, "Popen", refuse)
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="cannot be started: Resource temporarily unavailable"):
            rows([picture(1)])
    assert len(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize(
    ("does", "reason"), [("os._exit(7)", "exit status 7"), ("time.sleep(1000)", "no result in 0.5 s")]
)
def test_a_child_that_cannot_start_is_no_pictures_fault(
    site: Path, monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    limit(monkeypatch, Limits(start_seconds=0.5))
    site.write_text(f"import os, time\n{does}")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"^the process that decodes images cannot be started: .*{reason}"):
            rows([picture(0)])
    site.unlink()
    close()
    monkeypatch.undo()
    assert_rows([picture(0)], {})


def grandchild(does: str) -> tuple[subprocess.Popen, int]:
    """A process elsewhere that knows this project by its path alone and decodes; and its child."""
    program = f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        import numpy as np
        from pipelines.pixels import decode
        from zoo.preprocessing import Geometry
        SANDBOX = decode._SANDBOXES["exact"]
        def run(encoded):
            return SANDBOX.decode(encoded, [Geometry(8, 8, "bicubic")], [np.zeros((8, 8, 3), np.uint8)])
        assert run({picture(0)!r}) is None
        print(SANDBOX._child.process.pid, flush=True)
        {does}
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    parent = subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def test_no_child_outlives_a_parent_that_ends() -> None:
    parent, pid = grandchild("pass")
    with parent:
        assert parent.wait(20) == 0
    wait_until(lambda: gone(pid))


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a picture that hangs"])
def test_no_child_outlives_a_parent_that_is_killed(busy: bool) -> None:
    parent, pid = grandchild(f"run({poison('sleeps')!r})" if busy else "import time; time.sleep(1000)")
    with parent:
        time.sleep(0.3)
        assert not gone(pid)
        parent.kill()
    wait_until(lambda: gone(pid))


def test_the_child_is_limited_and_the_first_to_be_killed() -> None:
    assert_rows([picture(0)], {})
    process = Path(f"/proc/{child().pid}")
    limits = {line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()[1:]}
    assert limits["Max core file size"] == "0"
    assert 3 << 30 < int(limits["Max address space"]) < 5 << 30
    assert (process / "oom_score_adj").read_text() == "1000\n"
    assert [os.readlink(process / "fd" / str(fd)) for fd in range(3)] == [os.devnull] * 3


@pytest.mark.parametrize("decoder", get_args(Decoder))
def test_the_largest_picture_fits_the_limit(decoder: Decoder) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5_000, 10_000), 40_000, np.uint16)).save(buffer, "PNG", compress_level=1)
    arrays, errors = rows([buffer.getvalue()], decoder)
    assert errors == [None]
    assert (arrays[0] == round(40_000 / 257)).all()
    assert peak_memory(child(decoder).pid) < 1.4e9


def test_the_child_needs_little_to_start() -> None:
    heavy = "{'ray', 'torch', 'boto3', 'mlflow', 'pyarrow'}"
    program = (
        f"import sys; from pipelines.pixels import exact_decode, sandbox_child; print({heavy} & sys.modules.keys())"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"
