"""Covers pipelines.walk.passes and failures: cells split into passes, positions named apart, failures read back."""

from dataclasses import replace

import pytest

from pipelines.cells.plan import Plan
from pipelines.records import Dataset, Shard
from pipelines.walk.failures import Failure, FailureKind
from pipelines.walk.passes import PassPlan, split_passes
from tests.support.cell_rows import COLUMN, score_rows

SHARDS = tuple(Shard(name=f"{i}", uri=f"/{i}.tar", size=1, etag="e") for i in range(3))
PLAN = Plan(Dataset(name="val", source="/val", shards=SHARDS), (COLUMN,) * 3, ((0, 1, 2), (1,), (0, 1, 2)))


def test_shards_that_lack_the_same_models_go_together() -> None:
    assert split_passes(PLAN, 3) == [PassPlan(columns=(0, 2), shards=(0, 2)), PassPlan(columns=(0, 1, 2), shards=(1,))]


def test_no_pass_has_more_models_than_it_may() -> None:
    assert split_passes(replace(PLAN, missing=((0,), (0,), (0,))), 2) == [
        PassPlan(columns=(0, 1), shards=(0,)),
        PassPlan(columns=(2,), shards=(0,)),
    ]


def test_what_is_known_by_slot_is_known_by_column() -> None:
    assert PassPlan(columns=(4, 7), shards=(0,)).by_column({1: "no room"}) == {7: "no room"}


@pytest.mark.parametrize("kind", ["failed_shard", "absent_shard", "failed_model", "absent_model"])
def test_a_failure_is_read_back_from_its_row(kind: FailureKind) -> None:
    failure = Failure(kind=kind, slot=2, shard=5, reason="cut")
    assert Failure.from_scores(failure.as_scores()) == failure
    assert Failure.from_scores(score_rows(0, 0, 2)) is None
