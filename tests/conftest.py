"""Fixtures of all tests: data, a machine without weights, a local Ray; those of servers are in tests/support/."""

import itertools
import logging
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import shard_files
from tests.support.paths import SAMPLE

pytest_plugins = ["tests.support.servers"]


@pytest.fixture(scope="session")
def sample_images() -> Path:
    """The folder of 250 real ImageNet images, which cannot be published here."""
    if not SAMPLE.is_dir():
        pytest.skip("the 250 sample images are not on this machine")
    return SAMPLE


@pytest.fixture
def new_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Path]:
    """Makes this a machine without cached weights, a new one at each call. Returns the folder of its cache."""
    numbers = itertools.count()

    def home() -> Path:
        folder = tmp_path / f"home{next(numbers)}"
        folder.mkdir()
        monkeypatch.setenv("HOME", str(folder))
        return folder / ".cache" / "menagerie" / "weights"

    return home


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray of two logical CPUs for the whole session: starting it costs seconds."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def jpegs() -> list[bytes]:
    """Forty small images, no two alike, the same in every run."""
    random = np.random.default_rng(7)
    encoded = []
    for _ in range(40):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        buffer = BytesIO()
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return encoded


@pytest.fixture
def write_tar() -> shard_files.WriteTar:
    """Writes a tar of (name, content) members to a path, and returns its bytes."""
    return shard_files.write_tar
