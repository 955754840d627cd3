"""Covers jobs.steps.maintenance: what --gc lists, asks and removes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import evaluate
from jobs.console.cli import DONE
from tests.support.kept_stores import files, fill
from tests.support.shard_files import tar_of


def collect(store: Path, *flags: str) -> int:
    return evaluate.main(["--store", str(store), "--gc", *flags])


@pytest.fixture
def garbage(data: Path, store: Path) -> set[str]:
    """The names of two cells that no plan can reach, since their shards were replaced and removed."""
    fill(store, data)
    (data / "00001.tar").write_bytes(tar_of([("0.jpg", b"other")] * 9))
    (data / "00003.tar").unlink()
    return {name for name in files(store) if "00001-" in name or "00003-" in name}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as standard input; what is written into it, the job reads."""
    keyboard, terminal = os.openpty()
    with open(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keyboard
        monkeypatch.undo()
    os.close(keyboard)


def test_away_from_a_terminal_garbage_is_listed_and_kept(store, garbage, monkeypatch, capsys) -> None:
    before = files(store)
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert collect(store) == DONE
    said = capsys.readouterr().err
    assert all(f"garbage  {store}/{name}: its shard is gone or has changed" in said for name in garbage)
    assert said.endswith("nothing was removed; --yes removes 2 objects\n")
    assert files(store) == before


@pytest.mark.parametrize(("answer", "removes"), [(b"n\n", False), (b"\n", False), (b"\x04", False), (b"y\n", True)])
def test_at_a_terminal_garbage_goes_if_the_answer_is_yes(answer, removes, store, garbage, typed, capsys) -> None:
    before = files(store)
    os.write(typed, answer)
    assert collect(store) == DONE
    assert "remove 2 objects?" in capsys.readouterr().err
    assert before.keys() - files(store).keys() == (garbage if removes else set())


def test_yes_removes_the_garbage_without_asking_and_nothing_else(store, garbage, capsys) -> None:
    before = files(store)
    assert collect(store, "--yes") == DONE
    assert "removed  2 objects" in capsys.readouterr().err
    assert files(store) == {name: entry for name, entry in before.items() if name not in garbage}
    assert collect(store, "--yes") == DONE
    assert capsys.readouterr().err == "nothing to remove\n"


def test_a_dry_run_of_gc_lists_and_removes_nothing_even_with_yes(store, garbage, capsys) -> None:
    before = files(store)
    assert collect(store, "--dry-run", "--yes") == DONE
    said = capsys.readouterr().err
    assert all(f"garbage  {store}/{name}: " in said for name in garbage)
    assert "removed" not in said
    assert files(store) == before


def test_the_cells_of_data_that_is_away_are_kept_and_that_is_said(data, store, garbage, capsys) -> None:
    before = files(store)
    data.rename(data.with_name("away"))
    assert collect(store, "--yes") == DONE
    said = capsys.readouterr().err
    assert said.startswith("kept     the data of 'val' cannot be listed now: ")
    assert said.endswith("nothing to remove\n")
    assert files(store) == before
