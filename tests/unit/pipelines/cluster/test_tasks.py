"""cluster.tasks: every result comes once, errors in one line, and what is noted is not done again."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.cluster import tasks

pytestmark = pytest.mark.usefixtures("local_ray")


def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


def die() -> None:
    os._exit(1)


def test_each_result_comes_once_with_its_tag() -> None:
    assert dict(tasks.run(double, ((f"n{i}", (i,)) for i in range(50)))) == {f"n{i}": 2 * i for i in range(50)}


def test_a_call_is_drawn_only_when_there_is_room_for_it() -> None:
    drawn = []

    def calls():
        for i in range(50):
            drawn.append(i)
            yield i, (i,)

    running = tasks.run(double, calls())
    next(running)
    assert len(drawn) < 20
    assert len(list(running)) == 49


def test_what_a_task_raises_on_purpose_is_raised_here() -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        list(tasks.run(double, [(0, (1,)), (1, (-1,))]))


def doubled(number: int) -> bytes:
    return b"%d" % double(number)


def resume(folder: str, last: int, asked: list[int]) -> list[tuple[int, int]]:
    """The doubles of 0 to `last`; a note that is no number is not usable."""

    def calls(pending: Sequence[int]) -> Iterator[tuple[int, tuple[object, ...]]]:
        for number in pending:
            asked.append(number)
            yield number, (number,)

    def decoded(_: int, content: bytes) -> int | None:
        return int(content) if content.isdigit() else None

    names = [f"{number:03d}.note" for number in range(last + 1)]
    return list(tasks.resumed(doubled, folder, names, calls, decoded))


def test_what_is_noted_is_not_done_again_and_comes_first(tmp_path: Path) -> None:
    first, second = [], []
    assert sorted(resume(f"{tmp_path}/notes", 4, first)) == [(i, 2 * i) for i in range(5)]
    (tmp_path / "notes" / "001.note").unlink()
    (tmp_path / "notes" / "003.note").write_bytes(b"damaged")
    found = resume(f"{tmp_path}/notes", 5, second)
    assert found[:3] == [(0, 0), (2, 4), (4, 8)]
    assert sorted(found) == [(i, 2 * i) for i in range(6)]
    assert (first, second) == ([0, 1, 2, 3, 4], [1, 3, 5])
    notes = {path.name: path.read_bytes() for path in (tmp_path / "notes").iterdir()}
    assert notes == {f"{i:03d}.note": b"%d" % (2 * i) for i in range(6)}


def test_a_result_that_fails_leaves_no_note_and_keeps_those_before(tmp_path: Path) -> None:
    folder = str(tmp_path)
    names, decoded = ["a", "b"], lambda _, content: int(content)
    with pytest.raises(ValueError, match="-1 is negative"):
        list(tasks.resumed(doubled, folder, names, lambda _: [(0, (4,)), (1, (-1,))], decoded))
    assert "b" not in {path.name for path in tmp_path.iterdir()}


def test_a_task_that_is_lost_again_and_again_ends_the_job_in_one_line() -> None:
    with pytest.raises(storage.UnavailableError, match="Ray lost a task 4 times, most recently: "):
        list(tasks.run(die, [(0, ())]))
