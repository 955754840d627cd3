"""Checkpoints: the newest that is not damaged counts, on every kind of store; which are kept, and who may write."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines import storage
from pipelines.training import checkpoint, ownership
from pipelines.training.checkpoint import BestValidation, CheckpointContent, LearnerState, Saved
from pipelines.training.ownership import NotOwnerError
from pipelines.training.progress import CurvePoint, Position

LEARNER = LearnerState(network={"fc": torch.arange(4.0)}, optimiser={"state": {}}, scaler={}, average=None)
CURVE = (
    CurvePoint(stage=0, step=5, loss=0.5, lr=0.1),
    CurvePoint(stage=0, step=7, loss=0.4, lr=0.1, metrics={"top1": 50.0}, validation="set-0123"),
)
CONTENT = CheckpointContent(
    learner=LEARNER,
    step=7,
    curve=CURVE,
    best=BestValidation(50.0, Position(0, 7), "0123"),
    bad=1,
    seen=64,
    loss_sum=3.5,
    images=7,
)


def at(home: str, stage: int, step: int) -> Saved:
    return checkpoint.write(home, Position(stage, step), replace(CONTENT, step=step))


def test_what_is_written_is_read_back_and_the_same_again_is_the_same_object(store: str):
    first = at(store, 0, 7)
    assert at(store, 0, 7) == first
    assert checkpoint.listed(store) == [first]
    found = checkpoint.newest(store)
    assert (found.saved, found.damaged) == (first, ())
    assert found.content
    assert torch.equal(found.content.learner.weights["fc"], torch.arange(4.0))
    assert replace(found.content, learner=LEARNER) == CONTENT


def test_the_stored_form_is_the_one_of_the_first_checkpoints_and_is_read_back():
    stored = {
        "learner": {"network": LEARNER.network, "optimiser": {"state": {}}, "scaler": {}, "average": None},
        "step": 7,
        "curve": [
            {"stage": 0, "step": 5, "loss": 0.5, "lr": 0.1},
            {"stage": 0, "step": 7, "loss": 0.4, "lr": 0.1, "metrics": {"top1": 50.0}, "validation": "set-0123"},
        ],
        "best": (50.0, 0, 7, "0123"),
        "bad": 1,
        "seen": 64,
        "loss": 3.5,
        "images": 7,
    }
    assert CONTENT.to_stored() == stored
    assert list(CONTENT.to_stored()) == list(stored)
    assert CheckpointContent.from_stored(stored) == CONTENT
    assert replace(CONTENT, best=None).to_stored()["best"] is None


def test_the_newest_is_of_the_last_stage_and_step(tmp_path: Path):
    for stage, step in ((1, 5), (0, 900), (1, 10), (0, 1000)):
        at(str(tmp_path), stage, step)
    assert [(one.stage, one.step) for one in checkpoint.listed(str(tmp_path))] == [(0, 900), (0, 1000), (1, 5), (1, 10)]
    newest = checkpoint.newest(str(tmp_path)).saved
    assert newest
    assert (newest.stage, newest.step) == (1, 10)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_one_is_passed_over_for_the_one_before_and_named(tmp_path: Path, damage: str):
    before, last = at(str(tmp_path), 0, 5), at(str(tmp_path), 0, 10)
    content = bytearray(storage.read(last.uri))
    content[len(content) // 2] ^= 1
    Path(last.uri).write_bytes({"flipped": content, "cut": content[:100], "empty": b""}[damage])
    found = checkpoint.newest(str(tmp_path))
    assert found.saved == before
    assert found.content
    assert found.content.step == 5
    assert len(found.damaged) == 1
    assert f"{last.uri} is damaged" in found.damaged[0]
    assert at(str(tmp_path), 0, 10) == last  # computed again, it takes the damaged one's place
    assert checkpoint.newest(str(tmp_path)).saved == last


def test_a_training_without_a_checkpoint_begins_at_its_beginning(tmp_path: Path):
    assert checkpoint.newest(str(tmp_path / "none")) == checkpoint.Resumed(None, None, ())


def test_other_files_in_the_folder_are_nobodys_checkpoint(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    assert checkpoint.listed(str(tmp_path)) == []


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    saved = checkpoint.write(
        str(tmp_path), Position(0, 1), replace(CONTENT, learner=replace(LEARNER, scaler={"x": Evil()}))
    )
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        checkpoint.load(saved)


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path):
    written = [at(str(tmp_path), 0, step) for step in range(1, 7)]
    checkpoint.prune(str(tmp_path), written[-1], 2, Position(0, 3))
    assert [one.step for one in checkpoint.listed(str(tmp_path))] == [3, 5, 6]
    checkpoint.prune(str(tmp_path), written[-1], 1, None)
    assert [one.step for one in checkpoint.listed(str(tmp_path))] == [6]


def test_what_was_passed_over_as_damaged_never_crowds_out_what_is_sound(tmp_path: Path):
    for step in (50, 100, 120):
        at(str(tmp_path), 0, step)
    for saved in checkpoint.listed(str(tmp_path))[1:]:
        Path(saved.uri).write_bytes(b"damaged")
    checkpoint.prune(str(tmp_path), at(str(tmp_path), 0, 75), 2, None)
    assert [one.step for one in checkpoint.listed(str(tmp_path))] == [50, 75]
    newest = checkpoint.newest(str(tmp_path)).saved
    assert newest and newest.step == 75


def test_a_step_that_was_validated_takes_the_place_of_itself_before(tmp_path: Path):
    at(str(tmp_path), 0, 5)
    before = checkpoint.write(str(tmp_path), Position(0, 10), CONTENT, complete=False)
    checkpoint.prune(str(tmp_path), before, 2, None)
    assert [(one.step, one.complete) for one in checkpoint.listed(str(tmp_path))] == [(5, True), (10, False)]
    after = checkpoint.write(str(tmp_path), Position(0, 10), replace(CONTENT, step=10))
    assert checkpoint.newest(str(tmp_path)).saved == after
    checkpoint.prune(str(tmp_path), after, 2, None)
    assert [(one.step, one.complete) for one in checkpoint.listed(str(tmp_path))] == [(5, True), (10, True)]


def test_a_job_whose_training_another_one_has_taken_over_writes_and_removes_nothing(store: str):
    first = ownership.take(store)
    for step in (1, 2):
        checkpoint.save(store, first, Position(0, step), CONTENT, complete=True, keep=2)
    second = ownership.take(store)
    before = list(storage.list_objects(store))
    with pytest.raises(NotOwnerError, match="another job has taken over this training"):
        checkpoint.save(store, first, Position(0, 3), CONTENT, complete=True, keep=1)
    assert list(storage.list_objects(store)) == before
    saved = checkpoint.save(store, second, Position(0, 3), CONTENT, complete=True, keep=1)
    assert checkpoint.listed(store)[-1] == saved


def test_workers_that_do_not_see_the_drivers_store_write_nothing(tmp_path: Path):
    owner = ownership.take(str(tmp_path / "driver"))
    with pytest.raises(NotOwnerError, match="not every node reaches this store"):
        checkpoint.save(str(tmp_path / "worker"), owner, Position(0, 1), CONTENT, complete=True, keep=1)
    assert not (tmp_path / "worker").exists()
