"""What a worker keeps between steps: counts and sums over checkpoints, the best validation, and too many bad images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.records import Dataset
from pipelines.training.agreement import Decision
from pipelines.training.checkpoint import BestValidation, LearnerState
from pipelines.training.history import History
from pipelines.training.progress import Position
from pipelines.training.sampling.batches import DataError, SampleBatch
from tests.support.small_trainings import put

STATE = LearnerState(network={}, optimiser={}, scaler={}, average=None)
DECISION = Decision(loss_sum=12.0, images=6, bad=2, stop=False, save=False, poll=False)
BATCH = SampleBatch(
    step=0,
    pixels=np.zeros((8, 2, 2, 3), np.uint8),
    labels=np.zeros(8, np.int64),
    keys=tuple(f"k{i}" for i in range(8)),
    errors={3: "not an image", 5: "missing label"},
)


@pytest.fixture
def validation(tmp_path: Path) -> Dataset:
    return put(str(tmp_path), shards_=1, rows=2)


def test_a_history_continues_from_its_own_checkpoint(validation: Dataset) -> None:
    whole = History(validation, 1.0)
    whole.add_step(DECISION, BATCH)
    first = whole.content(STATE, 1)
    assert (first.bad, first.seen, first.loss_sum, first.images) == (2, 8, 12.0, 6)
    resumed = History(validation, 1.0)
    resumed.restore(first)
    for history in (whole, resumed):
        history.add_step(replace(DECISION, loss_sum=6.0), BATCH)
        progress = history.add_point(Position(0, 2), 0.1, {"top1": 50.0}, 2.0)
        assert (progress.point.loss, progress.bad) == (1.5, 4)
        assert progress.point.validation == f"{validation.name}-{validation.digest}"
    assert resumed.content(STATE, 2) == whole.content(STATE, 2)
    assert (whole.content(STATE, 2).loss_sum, whole.content(STATE, 2).images) == (0.0, 0)


def test_the_best_validation_is_the_first_with_its_top1_on_the_current_dataset(validation: Dataset) -> None:
    history = History(validation, 1.0)
    for step, top1 in enumerate((40.0, 60.0, 60.0, 50.0), 1):
        history.add_point(Position(0, step), 0.1, {"top1": top1}, 1.0)
    best = history.content(STATE, 4).best
    assert best == BestValidation(60.0, Position(0, 2), validation.digest)
    history.restore(replace(history.content(STATE, 4), best=replace(best, dataset="another")))
    history.add_point(Position(0, 5), 0.1, {"top1": 30.0}, 1.0)
    assert history.content(STATE, 5).best == BestValidation(30.0, Position(0, 5), validation.digest)


def test_too_many_bad_images_are_an_error_with_examples_and_the_first_few_are_not(validation: Dataset) -> None:
    history = History(validation, 0.01)
    for _ in range(5):
        history.add_step(DECISION, BATCH)
    with pytest.raises(DataError, match=r"12 of the first 48 images are bad: k3: not an image; k5: missing label"):
        history.add_step(DECISION, BATCH)
