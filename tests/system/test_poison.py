"""Pictures that kill, hang or flood the process that touches them, in a whole job: a row each, and no other lost."""

import shutil
import time
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.cells.cell import read_cell
from tests.support import faulty_runs
from tests.support.paths import ROOT

POISON = {7: "segfault", 23: "flood", 41: "sleeps"}
"""By key. The second exhausts memory; limits are the real ones."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def rows(store: Path) -> dict[str, dict]:
    """Every row of every cell by its key."""
    found = storage.list_objects(str(store / "cells"))
    every = [row for entry in found for row in read_cell(entry.uri, 10).to_pylist()]
    by_key = {row["key"]: row for row in every}
    assert len(by_key) == len(every)
    return by_key


def test_poison_and_a_flood_of_memory_cost_a_row_each_and_less_than_60_seconds(tmp_path, jpegs, capsys) -> None:
    site = tmp_path / "site" / "sitecustomize.py"
    site.parent.mkdir()
    shutil.copy(ROOT / "tests" / "support" / "poison.py", site)
    poisoned = list(jpegs) + list(jpegs)
    for key, name in POISON.items():
        poisoned[key] = jpegs[key % len(jpegs)] + b"POISON:" + name.encode()
    env = {"PYTHONPATH": str(site.parent), "RAY_ADDRESS": "local"}
    seconds = {}
    for name, pictures in (("calm", list(jpegs) * 2), ("ill", poisoned)):
        data = faulty_runs.put_shards(f"{tmp_path}/{name}/val", pictures)
        driver = faulty_runs.start(data, str(tmp_path / f"{name}-out"), env=env)
        code, said = driver.wait(200)
        seconds[name] = time.monotonic() - driver.started
        assert code == 0, said
    calm, ill = rows(tmp_path / "calm-out"), rows(tmp_path / "ill-out")
    lost = {key: row["error"] for key, row in ill.items() if row["error"]}
    with capsys.disabled():
        print(f"\ncalm {seconds['calm']:.0f} s, with poison {seconds['ill']:.0f} s: {lost}")  # noqa: T201
    assert sorted(lost) == sorted(str(key) for key in POISON)
    assert all(reason.startswith("quarantined: ") for reason in lost.values())
    assert {key: row for key, row in ill.items() if key not in lost} == {
        key: row for key, row in calm.items() if key not in lost
    }
    assert seconds["ill"] - seconds["calm"] < 60
