"""The record that each run of a job writes to the store: its progress, its last sign of life, its failures.

    STORE/runs/DATASET-DIGEST/START-ID.json

Cells alone say what is done. A record that is lost costs a line of --status, and --gc keeps the cells of its dataset if
no other record names it; a damaged one stops --gc until it is removed.
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
from typing import Any, Literal

from pipelines import storage
from pipelines.records import Dataset, short_digest
from pipelines.storage.layout import Folder

_SILENT_SECONDS = 40.0
"""A running run whose record is older than this has probably been killed."""
State = Literal["running", "finished", "unfinished", "stopped"]
"""`unfinished`: ended with cells missing. `stopped`: ended by a signal or an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a job.

    Attributes:
        sources: the data, as absolute paths, patterns and URIs.
        limit: how many images of it; None for all.
        host: the machine of the driver.
        pid: its process.
        started: seconds since 1970 by the clock of `host`.
        updated: when the record was last written, likewise.
        state: whether it runs, or how it ended.
        images: scored so far.
        bad: images that have an error instead of a score.
        cells: committed so far.
        pending: cells that were missing when it started.
        in_flight: cells of which some rows are scored.
        rate: images a second.
        remaining: estimated seconds from `updated` to the end; None where unknown.
        columns: names of the columns that it fills.
        failures: reasons by shard or model.
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
    failures: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def silent(self) -> float:
        """Age of the record in seconds if the run should be running but its record is overdue, else 0."""
        silent = time.time() - self.updated
        return silent if self.state == "running" and silent > _SILENT_SECONDS else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until its cells are filled by the run's own estimate; None where there is none."""
        if self.remaining is None or self.state != "running" or self.silent:
            return None
        return max(0.0, self.remaining - (time.time() - self.updated))


def evaluation_id(column: str, dataset: str, digest: str) -> str:
    """Identifies the evaluation of a column on a dataset, such as its run in MLflow; the same for every command.

    Args:
        column: name of the column.
        dataset: name of the dataset.
        digest: of the dataset.
    """
    return short_digest([column, dataset, digest])


@dataclass(frozen=True, slots=True)
class Intervals:
    """Times of a RunRecorder in seconds.

    Attributes:
        every_seconds: between two writes.
        closing_seconds: the longest wait at the end for the last write, including one that is still under way.
    """

    every_seconds: float = 10.0
    closing_seconds: float = 10.0


_INTERVALS = Intervals()


class RunRecorder:
    """Writes the record of this run at regular intervals until it is closed, whatever the run itself waits for.

    Only the first write must succeed. Afterwards a store that fails or is slow delays nothing, except the end by some
    seconds: the record then looks like that of a killed run, and the cells do not depend on it.
    """

    def __init__(
        self,
        store: str,
        dataset: Dataset,
        sources: tuple[str, ...],
        limit: int | None,
        pending: int,
        intervals: Intervals = _INTERVALS,
    ) -> None:
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
        self._intervals, self._closed = intervals, Event()
        # One thread for all writes, so that no older record replaces a newer one. A daemon, so that the process does
        # not wait at its end for a store that is unavailable.
        self._writer = Thread(target=self._write_until_closed, name="run record", daemon=True)
        self._writer.start()

    def note(self, **changes: object) -> None:
        """Change fields of the record; the next write has them."""
        self.run = replace(self.run, **changes)  # pyright: ignore[reportArgumentType]

    def close(self, state: State, failures: Mapping[str, str]) -> None:
        """Record how the run ended."""
        self.run = replace(self.run, state=state, failures=failures, updated=time.time())
        self._closed.set()
        self._writer.join(self._intervals.closing_seconds)

    def _write_until_closed(self) -> None:
        while not self._closed.wait(self._intervals.every_seconds):
            self._write(replace(self.run, updated=time.time()))
        self._write(self.run)

    def _write(self, run: Run) -> None:
        with suppress(OSError):
            storage.replace(self.uri, _encode(run))


def of_dataset(store: str, dataset: Dataset) -> list[Run]:
    """The runs on `dataset`, earliest first."""
    return sorted(_read(_folder(store, dataset)), key=lambda run: run.started)


def recorded(store: str) -> list[tuple[str, Run]]:
    """Every run of the store, with the name of its dataset.

    Raises:
        ValueError: if a record is damaged, since its dataset would be missing from the list.
    """
    folder = storage.join(store, Folder.RUNS)
    names = sorted({_first_folder(entry.uri, folder) for entry in storage.list_objects(folder)})
    return [(name.rpartition("-")[0], run) for name in names for run in _read(storage.join(folder, name), strict=True)]


def _first_folder(uri: str, folder: str) -> str:
    return uri.removeprefix(folder).strip("/").partition("/")[0]


def _folder(store: str, dataset: Dataset) -> str:
    return storage.join(store, Folder.RUNS, f"{dataset.name}-{dataset.digest}")


def _read(folder: str, *, strict: bool = False) -> Iterator[Run]:
    for entry in storage.list_objects(folder):
        try:
            yield _decode(storage.read(entry.uri))
        except FileNotFoundError:  # removed after it was listed
            continue
        except (ValueError, TypeError, KeyError) as error:
            if strict:
                raise ValueError(
                    f"{entry.uri}: not a record of a run; remove it if its data is gone: {error}"
                ) from error


def _decode(content: bytes) -> Run:
    fields: dict[str, Any] = json.loads(content)
    fields["sources"], fields["columns"] = tuple(fields["sources"]), tuple(fields.get("columns", ()))
    return Run(**fields)


def _encode(run: Run) -> bytes:
    return json.dumps(asdict(run), indent=1).encode() + b"\n"
