"""Covers pipelines.walk.scorer: models that fail, do not fit or have no room lose their own rows alone."""

import mmap
import re
import time
from dataclasses import replace

import pytest
import torch

from pipelines.models import mirror
from pipelines.walk import scorer as score_module
from pipelines.walk.scorer import Scorer
from tests.support.scorers import CARD, COLUMN, CONFIG, PIXELS, Network, chunk, score, with_column, with_networks
from zoo.weights import wanted


def test_scores_that_are_no_numbers_are_an_error_of_their_row(monkeypatch) -> None:
    def overflowing(x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 1000)
        logits[2, 5] = float("nan")
        return logits

    rows = score(with_networks(monkeypatch, overflowing), PIXELS)
    reason = "non-finite scores: the model's output is not a number"
    assert [(row["error"], row["offset"]) for row in rows] == [(None, None)] * 2 + [(reason, 1024), (None, None)]


@pytest.mark.parametrize(("there", "kind"), [(True, "failed_model"), (False, "absent_model")])
def test_a_model_with_wrong_weights_is_told_from_one_whose_weights_are_away(tmp_path, there, kind) -> None:
    path = tmp_path / "misfit.pth"
    if there:
        torch.save({"stranger": torch.zeros(1)}, path)
    scorer = Scorer(with_column(file=wanted.explicit(CARD, str(path))))
    (row,) = [row for table in scorer(chunk(PIXELS)) for row in table.to_pylist()]
    assert (row["kind"], row["shard"], row["slot"]) == (kind, 5, 0)
    assert "misfit.pth" in row["error"]


def fine(x: torch.Tensor) -> torch.Tensor:
    return torch.arange(1000.0).expand(len(x), 1000)


def out_of_memory(_: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def misfit(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(3, 4) @ x


def kinds(scorer: Scorer) -> list[tuple[int, str, str | None]]:
    """(Slot, kind, error) of each row of one image."""
    return [(row["slot"], row["kind"], row["error"]) for row in score(scorer, PIXELS[:1])]


def test_a_model_that_raises_loses_its_own_rows_with_the_reason(monkeypatch) -> None:
    first, second, third = kinds(with_networks(monkeypatch, fine, misfit, fine))
    assert (first, third) == ((0, "scored", None), (2, "scored", None))
    assert second[:2] == (1, "failed_model")
    assert re.match("RuntimeError: Expected size", second[2] or "")


def test_a_model_without_room_beside_others_is_absent_and_alone_it_has_failed(monkeypatch) -> None:
    beside = with_networks(monkeypatch, fine, out_of_memory)
    for _ in range(2):
        assert kinds(beside) == [(0, "scored", None), (1, "absent_model", "no room beside the others")]
    assert kinds(with_networks(monkeypatch, out_of_memory)) == [(0, "failed_model", "out of memory")]


def test_models_above_the_allowance_are_absent_but_never_the_first(monkeypatch) -> None:
    resident = iter([0, 200, 200])  # before, and beside the first model; that one is not asked about
    monkeypatch.setattr(score_module, "_resident_bytes", lambda: next(resident))
    rows = kinds(with_networks(monkeypatch, fine, fine, fine, memory=100))
    assert rows == [(0, "scored", None), *((slot, "absent_model", "no room beside the others") for slot in (1, 2))]


def test_what_a_process_holds_is_measured() -> None:
    before = score_module._resident_bytes()
    held, deadline = mmap.mmap(-1, 1 << 28), time.monotonic() + 10  # what malloc has may be resident already
    held.write(bytes(len(held)))
    while score_module._resident_bytes() - before <= len(held) // 2:  # a kernel may count a moment later
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_an_ensemble_one_member_that_cannot_be_run_loses_the_rows(monkeypatch) -> None:
    networks = iter(map(Network, (fine, misfit, fine)))
    monkeypatch.setattr(mirror, "load", lambda *_: next(networks))
    ensemble = Scorer(replace(CONFIG, columns=(replace(COLUMN, ensemble=(COLUMN,)), COLUMN)))
    (slot, kind, reason), single = kinds(ensemble)
    assert (slot, kind, single) == (0, "failed_model", (1, "scored", None))
    assert re.match("RuntimeError: Expected size", reason or "")
