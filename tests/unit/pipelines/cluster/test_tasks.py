"""Ray tasks by the thousand: all results, errors in plain words, and an end where a task cannot be had."""

import os

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


def test_a_task_that_is_lost_again_and_again_ends_the_job_in_one_line() -> None:
    with pytest.raises(storage.UnavailableError, match="Ray lost a task 4 times, most recently: "):
        list(tasks.run(die, [(0, ())]))
