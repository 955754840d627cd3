"""Ray tasks by the thousand: a bounded number at once, and notes of what is done.

A task of a lost node is tried again, and an error that a task raises on purpose is raised here. With `resumed`, a task
writes its note before it counts as done, so that a job which is started again does only the rest.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from pipelines import storage
from pipelines.cluster.shares import resources
from pipelines.messages import one_line

_CPUS = 0.5
_RETRIES = 3
_AHEAD = 2
"""Submitted tasks for each running one, so that none waits for the driver."""
Tag = TypeVar("Tag")
Result = TypeVar("Result")


def run(
    function: Callable[..., Result], calls: Iterable[tuple[Tag, tuple[object, ...]]]
) -> Iterator[tuple[Tag, Result]]:
    """Run `function` as a task for each of `calls`, which are pairs of a tag and arguments.

    A call is drawn only when there is room for it, so its arguments may depend on the results so far.

    Yields:
        The tag and result of each call, as they get ready.

    Raises:
        ValueError, OSError: if a task raises one.
        UnavailableError: if the process or node of a task is lost again and again.
    """
    task = ray.remote(function).options(num_cpus=_CPUS, max_retries=_RETRIES)
    running: dict[Any, Tag] = {}
    try:
        for tag, arguments in calls:
            running[task.remote(*arguments)] = tag
            if len(running) >= _room():
                yield _next(running)
        while running:
            yield _next(running)
    finally:  # after an error nobody uses the other results
        for task in running:
            ray.cancel(task)


def resumed(
    function: Callable[..., bytes],
    folder: str,
    names: Sequence[str],
    calls: Callable[[Sequence[int]], Iterable[tuple[int, tuple[object, ...]]]],
    decoded: Callable[[int, bytes], Result | None],
) -> Iterator[tuple[int, Result]]:
    """Like `run`, but each result is stored as a note, and calls that have a note are not run again.

    Args:
        function: makes the content of a note; the task writes it down before it counts as done.
        folder: the URI of the folder that holds the notes and nothing else.
        names: the names of all notes; a result's position among them is its number.
        calls: for the numbers that are not noted, in that order, each with the arguments of `function`.
        decoded: the result in a note, or None if it has to be made again.

    Yields:
        Results with their numbers: those of earlier jobs first, then those of tasks as they get ready.
    """
    noted = {entry.uri for entry in storage.list_objects(folder)}
    uris = [storage.join(folder, name) for name in names]
    pending: list[int] = []
    for number, uri in enumerate(uris):
        content = _note(uri) if uri in noted else None
        result = None if content is None else decoded(number, content)
        if result is None:
            pending.append(number)
        else:
            yield number, result
    made = run(_write_note, ((number, (function, uris[number], *arguments)) for number, arguments in calls(pending)))
    for number, content in made:
        result = decoded(number, content)
        assert result is not None, uris[number]
        yield number, result


def _note(uri: str) -> bytes | None:
    """The content of a note; None where it is damaged or gone, so that it is made again."""
    try:
        return storage.read(uri)
    except (storage.DamagedError, FileNotFoundError):
        return None


def _write_note(function: Callable[..., bytes], uri: str, *arguments: object) -> bytes:
    content = function(*arguments)
    storage.replace(uri, content)
    return content


def _room() -> int:
    """The number of tasks at once. Half of them wait, so that an autoscaler adds nodes for these."""
    return _AHEAD * max(1, int(resources()[0] / _CPUS))


def broadcast(value: Result) -> "ray.ObjectRef[Result]":
    """A reference to `value` to pass to many tasks; the value travels to each node once."""
    return ray.put(value)


def _next(running: dict[Any, Tag]) -> tuple[Tag, Any]:
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
