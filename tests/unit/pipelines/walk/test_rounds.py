"""Covers pipelines.walk.rounds and passes, over a scripted walk: models that kill workers, overflow, find no room."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pytest
from ray.exceptions import RayActorError

from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.records import SCORES, Dataset, Settings, Shard
from pipelines.walk import filling
from pipelines.walk.failures import NON_FINITE, Failure
from pipelines.walk.options import RunOptions
from pipelines.walk.rounds import Progress
from tests.support import cell_rows

ROWS = 20
SHARDS = tuple(Shard(name=f"{i:05d}", uri=f"/{i}.tar", size=1, etag="e") for i in range(2))
DATASET = Dataset(name="val", source="/val", shards=SHARDS)
FIVE = [replace(cell_rows.COLUMN, settings=Settings(batch_size=size)) for size in (1, 2, 3, 4, 5)]


class Script:
    """A walk that yields made-up scores; models are known by their batch sizes."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.killers: set[int] = set()
        self.overflowing: set[int] = set()
        self.most = len(FIVE)

    def __call__(
        self, columns: Sequence[Column], _: object, positions: Sequence[int], __: RunOptions
    ) -> Iterator[pa.Table]:
        sizes = [column.settings.batch_size for column in columns]
        self.passes.append(sizes)
        if self.killers & set(sizes):
            raise RayActorError
        for shard in positions:
            for slot, size in enumerate(sizes):
                yield self.rows(slot, shard, size) if slot < self.most else no_room(slot, shard)

    def rows(self, slot: int, shard: int, size: int) -> pa.Table:
        scores = cell_rows.score_rows(slot, shard, ROWS, errors=tuple(range(ROWS)) if size in self.overflowing else ())
        if size not in self.overflowing:
            return scores
        said = pa.array([f"{NON_FINITE}: x"] * ROWS)
        return scores.set_column(SCORES.get_field_index("error"), "error", said)


def no_room(slot: int, shard: int) -> pa.Table:
    return Failure(kind="absent_model", slot=slot, shard=shard, reason="no room beside the others").as_scores()


@pytest.fixture
def script(monkeypatch) -> Script:
    walk = Script()
    monkeypatch.setattr(filling, "walk", walk)
    monkeypatch.setattr(filling, "resolve_device", lambda _, _gpus: "cpu")
    return walk


def fill(store: str, max_bad_rate: float = 1.0) -> filling.Outcome:
    seen: list[Progress] = []
    options = RunOptions(device="cpu", max_bad_rate=max_bad_rate, pause_seconds=0)
    return filling.fill(store, plan_cells(store, DATASET, FIVE), options, seen.append)


def test_a_model_that_kills_its_workers_is_parted_from_the_others_and_named(script, tmp_path) -> None:
    script.killers = {4}
    outcome = fill(str(tmp_path))
    assert [len(missing) for missing in outcome.plan.missing] == [0, 0, 0, 2, 0]
    assert list(outcome.unusable) == [3]
    assert outcome.unusable[3].startswith("run alone, its pass broke off: RayActorError")
    assert script.passes[0] == [1, 2, 3, 4, 5]


def test_models_without_room_are_run_in_passes_after_the_others(script, tmp_path) -> None:
    """Models without room are run in passes after the others, and then the outcome does not name them."""
    script.most = 2
    outcome = fill(str(tmp_path))
    assert (outcome.plan.pending, outcome.unusable) == (0, {})
    assert script.passes == [[1, 2, 3, 4, 5], [3, 4, 5], [5]]


def test_a_model_that_overflows_is_no_reason_to_give_the_pictures_up(script, tmp_path) -> None:
    script.overflowing = {1}
    outcome = fill(str(tmp_path), max_bad_rate=0.01)
    assert (outcome.plan.pending, outcome.spoiled) == (0, None)


def test_the_time_of_models_is_of_their_own_rows_alone(script, tmp_path) -> None:
    assert fill(str(tmp_path)).speeds == pytest.approx(dict.fromkeys(range(5), 1000.0))
