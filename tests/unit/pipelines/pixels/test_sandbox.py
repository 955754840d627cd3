"""Covers pipelines.pixels.sandbox: an image that breaks its decoder is one row with a reason and costs no other.

The children really die. Bytes after the end of an image tell them how, see `tests.support.poison`.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.pixels import decode, exact_decode, sandbox
from pipelines.pixels.sandbox import QUARANTINED, Limits, Sandbox
from pipelines.records import CHUNK, Decoder, View
from tests.support.paths import ROOT
from zoo.preprocessing import Geometry

GEOMETRIES = [Geometry(32, 36, "bicubic"), Geometry(48, 48, "bilinear")]

REASONS = {
    "segfault": "crashed the decoder (SIGSEGV)",
    "realtime": "crashed the decoder (signal 40)",
    "exits": "crashed the decoder (exit status 139)",
    "killed": "crashed the decoder (SIGKILL)",
    "flood": "out of memory (needs more than 0.25 GiB)",
    "nomemory": "out of memory (needs more than 0.25 GiB)",
    "sleeps": "timed out (no result in 1 s)",
    "stops": "timed out (no result in 1 s)",
    "nonsense": "crashed the decoder (its answer is nonsense)",
    "deaf": "crashed the decoder (it closed its socket)",
    "raises": "crashed the decoder (exit status 1)",
}


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def poison(name: str) -> bytes:
    return picture(99) + b"POISON:" + name.encode()


def rows(images: list[bytes], decoder: Decoder = "exact") -> tuple[list[np.ndarray], list[str | None]]:
    row = dict.fromkeys(CHUNK.names) | {"shard": 0, "start": 0, "last": True, "images": images}
    row |= {"keys": [str(i) for i in range(len(images))], "labels": [0] * len(images), "errors": [None] * len(images)}
    table = decode.decode_chunks(
        pa.Table.from_pylist([row], schema=CHUNK), [View(decoder, geometry) for geometry in GEOMETRIES]
    )
    (out,) = table.to_pylist()
    shapes = [(len(images), geometry.size, geometry.size, 3) for geometry in GEOMETRIES]
    arrays = [np.frombuffer(out[f"pixels_{i}"], np.uint8).reshape(shape) for i, shape in enumerate(shapes)]
    return arrays, out["errors_0"]


def assert_rows(images: list[bytes], reasons: dict[int, str]) -> None:
    """Rows of `reasons` have those and no pixels; all others are what Pillow gives here, in this process."""
    arrays, errors = rows(images)
    assert {row: error for row, error in enumerate(errors) if error is not None} == reasons
    for array, geometry in zip(arrays, GEOMETRIES, strict=True):
        for row, encoded in enumerate(images):
            if row in reasons:
                assert not array[row].any()
            else:
                assert (array[row] == exact_decode.resize_and_crop(exact_decode.open_rgb(encoded), geometry)).all()


def child(decoder: Decoder = "exact") -> subprocess.Popen:
    running = decode._SANDBOXES[decoder]._child
    assert running is not None
    return running.process


def gone(pid: int) -> bool:
    """Whether it ended: nothing but a zombie, if its new parent has not asked for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children() -> set[int]:
    """Those of this process that live."""
    pids = {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}
    return {pid for pid in pids if not gone(pid)}


def close() -> None:
    for box in decode._SANDBOXES.values():
        box.close()


def limit(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    """Decode in children with other limits."""
    for decoder in get_args(Decoder):
        monkeypatch.setitem(decode._SANDBOXES, decoder, Sandbox(f"pipelines.pixels.{decoder}_decode", limits))


@pytest.fixture(autouse=True)
def fresh_child() -> Iterator[None]:
    close()
    before = children()
    yield
    close()
    assert children() <= before


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The `sitecustomize.py` of children."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "sitecustomize.py"


@pytest.fixture
def faults(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Children in which poison works, and that are limited so that tests are short."""
    shutil.copy(ROOT / "tests" / "support" / "poison.py", site)
    limit(monkeypatch, Limits(seconds=1, ending_seconds=0.5, memory=256 << 20))
    yield
    close()


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("name", REASONS)
def test_a_picture_that_kills_or_hangs_its_decoder_is_one_row_with_a_reason(name: str) -> None:
    assert_rows([picture(0), picture(1), poison(name), picture(2), picture(3)], {2: QUARANTINED + REASONS[name]})


@pytest.mark.usefixtures("faults")
def test_poison_in_first_and_last_place_and_side_by_side() -> None:
    dead, late = QUARANTINED + REASONS["segfault"], QUARANTINED + REASONS["sleeps"]
    images = [poison("segfault"), picture(0), poison("sleeps"), poison("segfault"), picture(1), poison("sleeps")]
    assert_rows(images, {0: dead, 2: late, 3: dead, 5: late})
    assert_rows([poison("segfault")], {0: dead})
    assert_rows([picture(5)], {})


@pytest.mark.slow
@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough) for name in ("segfault", "flood")] + ["sleeps"]
)
def test_the_fast_decoder_loses_no_other_row_either(name: str) -> None:
    arrays, errors = rows([picture(0), poison(name), picture(1)], "fast")
    assert errors == [None, QUARANTINED + REASONS[name], None]
    expected, _ = rows([picture(0), picture(1)], "fast")
    for array, alone in zip(arrays, expected, strict=True):
        assert (array[[0, 2]] == alone).all()
        assert not array[1].any()


@pytest.mark.usefixtures("faults")
def test_the_same_child_goes_on_until_it_dies_and_is_then_replaced() -> None:
    assert_rows([picture(0), b"no image"], {1: "not an image: the bytes are not JPEG, PNG, WEBP"})
    first, files = child(), len(os.listdir("/proc/self/fd"))
    assert_rows([picture(1)], {})
    assert child() is first
    assert_rows([poison("killed"), picture(1)], {0: QUARANTINED + REASONS["killed"]})
    assert child() is not first
    assert gone(first.pid)
    assert len(os.listdir("/proc/self/fd")) == files


@pytest.mark.usefixtures("faults")
def test_a_picture_is_tried_once_more_before_it_is_blamed() -> None:
    assert_rows([picture(0), poison("once"), picture(1)], {})


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


@pytest.mark.usefixtures("faults")
def test_what_a_codec_prints_is_not_taken_for_an_answer() -> None:
    assert_rows([poison("babbles"), picture(0), poison("babbles")], {})


def test_what_python_prints_when_it_starts_is_not_taken_for_an_answer(site: Path) -> None:
    site.write_text("print('x' * 100_000)")
    assert_rows([picture(0)], {})


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


def test_pictures_and_pixels_of_any_size_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    large = [Geometry(1500, 1500, "bilinear"), GEOMETRIES[0]]
    monkeypatch.setattr(sys.modules[__name__], "GEOMETRIES", large)
    padded = picture(1) + bytes(30 << 20)
    refused = {2: "empty file", 4: "not an image: the bytes are not JPEG, PNG, WEBP"}
    assert_rows([picture(0), padded, b"", picture(2), b"no image" * 5_000_000], refused)


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
    assert peak(child(decoder).pid) < 1.4e9


def peak(pid: int) -> int:
    """Most bytes that were ever resident."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_the_child_needs_little_to_start() -> None:
    heavy = "{'ray', 'torch', 'boto3', 'mlflow', 'pyarrow'}"
    program = (
        f"import sys; from pipelines.pixels import exact_decode, sandbox_child; print({heavy} & sys.modules.keys())"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"
