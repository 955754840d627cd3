"""Checkpoints: the newest sound one counts, on every kind of store; and which are kept."""

import pickle
from pathlib import Path

import pytest
import torch

from pipelines import storage
from pipelines.training import checkpoint
from pipelines.training.checkpoint import Saved

CONTENT = {"learner": {"weights": torch.arange(4.0)}, "step": 7, "best": (50.0, 0, 7), "curve": [{"loss": 0.5}]}


def at(home: str, stage: int, step: int) -> Saved:
    return checkpoint.write(home, (stage, step), CONTENT | {"step": step})


def test_what_is_written_is_read_back_and_the_same_again_is_the_same_object(store: str):
    first = at(store, 0, 7)
    assert at(store, 0, 7) == first
    assert checkpoint.listed(store) == [first]
    found = checkpoint.newest(store)
    assert (found.saved, found.damaged) == (first, ())
    assert found.content
    assert torch.equal(found.content["learner"]["weights"], torch.arange(4.0))
    assert {k: v for k, v in found.content.items() if k != "learner"} == {
        k: v for k, v in CONTENT.items() if k != "learner"
    }


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
    assert found.content["step"] == 5
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

    saved = checkpoint.write(str(tmp_path), (0, 1), {"x": Evil()})
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        checkpoint.load(saved)


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path):
    written = [at(str(tmp_path), 0, step) for step in range(1, 7)]
    checkpoint.prune(str(tmp_path), written[-1], 2, (0, 3))
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
    before = checkpoint.write(str(tmp_path), (0, 10), CONTENT, told=0)
    checkpoint.prune(str(tmp_path), before, 2, None)
    assert [(one.step, one.told) for one in checkpoint.listed(str(tmp_path))] == [(5, 1), (10, 0)]
    after = checkpoint.write(str(tmp_path), (0, 10), CONTENT | {"step": 10})
    assert checkpoint.newest(str(tmp_path)).saved == after
    checkpoint.prune(str(tmp_path), after, 2, None)
    assert [(one.step, one.told) for one in checkpoint.listed(str(tmp_path))] == [(5, 1), (10, 1)]
