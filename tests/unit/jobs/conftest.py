"""Fixtures of tests of jobs: two small shards, and the folder of a store."""

from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path, write_tar, jpegs) -> Path:
    """Two shards of four labelled pictures each."""
    for shard in range(2):
        members = []
        for i in range(4 * shard, 4 * shard + 4):
            members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", b"%d" % i)]
        write_tar(tmp_path / "val" / f"{shard:05d}.tar", members)
    return tmp_path / "val"


@pytest.fixture
def store_folder(tmp_path) -> Path:
    return tmp_path / "out"
