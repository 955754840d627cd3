"""Ray tasks by the thousand: a bounded number at once, and the error of one in plain words.

Owns how many run, that a lost node costs another try, and that what a task raises on purpose is raised here. Refuses to
know what a task does; each writes down what it has done before it is counted as done.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from pipelines import storage
from pipelines.cluster.shares import resources
from pipelines.messages import one_line

_CPUS = 0.5
_RETRIES = 3
_AHEAD = 2
"""Tasks for each that runs, so that none waits for the driver."""
Tag = TypeVar("Tag")


def run(function: Callable[..., Any], calls: Iterable[tuple[Tag, tuple]]) -> Iterator[tuple[Tag, Any]]:
    """The results of `function` for the arguments of each call, with its tag, as they get ready.

    A call is drawn only when there is room for it, so that its arguments may depend on results so far.

    Raises:
        ValueError: what a task raised.
        OSError: likewise.
        UnavailableError: if a task's process or node is lost again and again.
    """
    task = ray.remote(function).options(num_cpus=_CPUS, max_retries=_RETRIES)
    running: dict = {}
    try:
        for tag, arguments in calls:
            running[task.remote(*arguments)] = tag
            if len(running) >= _most():
                yield _next(running)
        while running:
            yield _next(running)
    finally:  # after an error nobody waits for the others
        for task in running:
            ray.cancel(task)


def _most() -> int:
    """Tasks at once. Half of them wait: for these an autoscaler adds nodes, and then there may be more."""
    return _AHEAD * max(1, int(resources()[0] / _CPUS))


def broadcast(value: Any) -> Any:
    """What many tasks are given: it travels once to each node."""
    return ray.put(value)


def _next(running: dict) -> tuple[Any, Any]:
    (ready,), _ = ray.wait(list(running))
    tag = running.pop(ready)
    try:
        return tag, ray.get(ready)
    except RayTaskError as error:
        if isinstance(error.cause, ValueError | OSError):
            raise error.cause from None  # it names what is wrong
        raise
    except RayError as error:
        reason = one_line(error)
        raise storage.UnavailableError(f"Ray lost a task {_RETRIES + 1} times, most recently: {reason}") from error
