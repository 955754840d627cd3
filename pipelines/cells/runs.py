"""What each run of a job leaves on the store about itself: how far it is, when it was last heard of, what failed.

    STORE/runs/DATASET-DIGEST/START-ID.json

Owns these records and who has to be heard how often. Refuses to be needed: cells alone say what is done, and a record
that is lost or damaged costs nothing but a line of status; garbage collection asks them which datasets there are.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from threading import Event, Thread
from typing import Literal

from pipelines import storage
from pipelines.records import Dataset, short_digest
from pipelines.storage.layout import Folder

_EVERY_SECONDS = 10.0
_SILENT_SECONDS = 40.0
_CLOSING_SECONDS = 10.0
"""A run that is done waits so long for its last note, and one that is under way before it."""
State = Literal["running", "finished", "unfinished", "stopped"]
"""`unfinished`: it ended with cells missing. `stopped`: by a signal or an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: where its data is, how far it is, and what failed, with the reasons, by shard or model.

    `started` and `updated` are seconds since 1970 by the clock of `host`. `rate` is in images a second, `remaining` in
    seconds from `updated` on; `columns` are those that it fills, by name.
    """

    sources: tuple[str, ...]
    limit: int | None
    host: str
    pid: int
    started: float
    updated: float
    state: State = "running"
    images: int = 0
    bad: int = 0
    cells: int = 0
    pending: int = 0
    in_flight: int = 0
    rate: float = 0.0
    remaining: float | None = None
    columns: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def silent(self) -> float:
        """Seconds since a run that says it is running was last heard of, 0 while that is not long."""
        silent = time.time() - self.updated
        return silent if self.state == "running" and silent > _SILENT_SECONDS else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until its cells are filled, as the run itself reckons, if it can and goes on."""
        if self.remaining is None or self.state != "running" or self.silent:
            return None
        return max(0.0, self.remaining - (time.time() - self.updated))


def evaluation_id(column: str, dataset: str, digest: str) -> str:
    """What MLflow's run of a column, by name, on a dataset, by name and digest, is found by; no command changes it."""
    return short_digest([column, dataset, digest])


class RunRecorder:
    """Writes the record of this run every so often until it is closed, whatever the run itself waits for.

    Only the first write must succeed. After it a store that refuses or is slow holds nothing up, at the end for seconds
    at most: the record then looks like that of a killed run, and the cells do not depend on it.
    """

    def __init__(self, store: str, dataset: Dataset, sources: tuple[str, ...], limit: int | None, pending: int) -> None:
        now = time.time()
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{uuid.uuid4().hex[:8]}.json"
        self.uri = storage.join(_folder(store, dataset), name)
        self.run = Run(
            sources=tuple(map(storage.absolute, sources)),
            limit=limit,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=now,
            updated=now,
            pending=pending,
        )
        storage.replace(self.uri, _encode(self.run))
        self._closed = Event()
        # One thread for all writes: no older record lands on a newer one. A daemon: the process must not wait at its
        # end for a store that is away.
        self._writer = Thread(target=self._write_until_closed, name="diary", daemon=True)
        self._writer.start()

    def note(self, **changes: object) -> None:
        """Change fields of the record."""
        self.run = replace(self.run, **changes)  # pyright: ignore[reportArgumentType]

    def close(self, state: State, failures: Mapping[str, str]) -> None:
        """Say how the run ended."""
        self.run = replace(self.run, state=state, failures=failures, updated=time.time())
        self._closed.set()
        self._writer.join(_CLOSING_SECONDS)

    def _write_until_closed(self) -> None:
        while not self._closed.wait(_EVERY_SECONDS):
            self._write(replace(self.run, updated=time.time()))
        self._write(self.run)

    def _write(self, run: Run) -> None:
        with suppress(OSError):
            storage.replace(self.uri, _encode(run))


def of_dataset(store: str, dataset: Dataset) -> list[Run]:
    """The runs on `dataset`, the earliest first."""
    return sorted(_read(_folder(store, dataset)), key=lambda run: run.started)


def recorded(store: str) -> list[tuple[str, Run]]:
    """Every run of the store, with the name of its dataset.

    Raises:
        ValueError: if a record is damaged: a dataset that is not known would seem to be none.
    """
    folder = storage.join(store, Folder.RUNS)
    names = sorted({_below(entry.uri, folder) for entry in storage.list_objects(folder)})
    return [(name.rpartition("-")[0], run) for name in names for run in _read(storage.join(folder, name), strict=True)]


def _below(uri: str, folder: str) -> str:
    return uri.removeprefix(folder).strip("/").partition("/")[0]


def _folder(store: str, dataset: Dataset) -> str:
    return storage.join(store, Folder.RUNS, f"{dataset.name}-{dataset.digest}")


def _read(folder: str, *, strict: bool = False) -> Iterator[Run]:
    for entry in storage.list_objects(folder):
        try:
            content = json.loads(storage.read(entry.uri))
            yield Run(**{**content, "sources": tuple(content["sources"]), "columns": tuple(content.get("columns", ()))})
        except FileNotFoundError:  # removed since it was listed
            continue
        except (ValueError, TypeError, KeyError) as error:
            if strict:
                raise ValueError(
                    f"{entry.uri}: not a record of a run; remove it if its data is gone: {error}"
                ) from error


def _encode(run: Run) -> bytes:
    return json.dumps(asdict(run), indent=1).encode() + b"\n"
