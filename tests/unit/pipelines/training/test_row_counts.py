"""Covers training.row_counts: what an earlier count says, empty shards, and data with too few samples."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.training import row_counts
from pipelines.training.specification import Stage
from tests.support.small_trainings import put, stage


@pytest.fixture
def uncounted(tmp_path: Path) -> Stage:
    return replace(stage(put(str(tmp_path / "data"))), rows=(0,) * 4)


def counted(home: Path, part: Stage, *rows: int | None) -> Stage | None:
    home.mkdir(exist_ok=True)
    (home / f"counts-{part.name}.json").write_text(json.dumps(rows))
    return row_counts.with_known_rows(str(home), part)


def test_an_empty_shard_is_counted_and_one_that_is_not_is_known_from_it(tmp_path: Path, uncounted: Stage) -> None:
    known = counted(tmp_path / "home", uncounted, 12, 0, 12, 12)
    assert known
    assert known.rows == (12, 0, 12, 12)
    assert counted(tmp_path / "home", uncounted, 12, None, 12, 12) is None


@pytest.mark.parametrize("rows", [(0, 0, 0, 0), (1, 0, 0, 0)])
def test_fewer_samples_than_streams_are_refused_before_workers_start(tmp_path, uncounted, rows) -> None:
    several = replace(uncounted, streams=2)
    with pytest.raises(ValueError, match=rf"{sum(rows)} samples for the stage .*, fewer than --streams 2"):
        counted(tmp_path / "home", several, *rows)
