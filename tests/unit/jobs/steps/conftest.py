"""Fixtures of tests of steps: four small shards, a copy of them, and the folder of a store."""

import shutil
from pathlib import Path

import pytest

from tests.support.kept_stores import IMAGES, SHARDS
from tests.support.shard_files import tar_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, jpegs: list[bytes]) -> Path:
    """Four shards of two labelled pictures each; tests work on copies, which keep the times and so the cells' names."""
    folder = tmp_path_factory.mktemp("pictures") / "val"
    folder.mkdir()
    for shard in range(SHARDS):
        members = []
        for i in range(IMAGES * shard, IMAGES * shard + IMAGES):
            members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", b"%d" % i)]
        (folder / f"{shard:05d}.tar").write_bytes(tar_of(members))
    return folder


@pytest.fixture
def data(pictures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "val"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "out"
