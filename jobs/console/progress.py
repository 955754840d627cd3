"""Progress of long work: a live bar on a terminal, a line now and then in a log.

Owns rates and ETA as people read them. Refuses to write to standard output, which is for results.
"""

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

_LOG_SECONDS = 10.0
_LISTING_SECONDS = 3.0
_LEAST_SECONDS = 1.0
"""Over less a rate says nothing: two blocks that arrive together would make thousands of images a second."""
console = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """One line on standard error, never broken: a path must stay in one piece to be copied."""
    console.print(line, soft_wrap=True, markup=False)


@dataclass(slots=True)
class Meter:
    """Shows `done` of `total` units and a rate: `with Meter("cells", 12) as meter: meter.update(3, images=450)`.

    The rate is in images a second, or in units where no images are told of.
    """

    unit: str
    total: int
    expected: int | None = None
    """Images in all, where that is known; else the ETA is guessed from the units."""
    _bar: Progress | None = None
    _started: float = field(default_factory=time.monotonic)
    _first: tuple[float, int] | None = None
    """When the first were done, and how many: rates count from there, not from before the workers started."""
    _last: tuple[float, int] = (0.0, 0)
    _done: int = 0
    _logged: float = 0.0
    _unsaid: str = ""

    def __enter__(self) -> "Meter":
        if console.is_terminal:
            columns = (SpinnerColumn(), TextColumn(self.unit), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, TextColumn("{task.description}"), TimeElapsedColumn(), console=console)
            self._bar.add_task("starting", total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif self._unsaid and kind is None:  # else the last line of a log would look like a hang
            say(self._unsaid)

    def update(self, done: int, images: int | None = None, bad: int = 0, note: str = "") -> None:
        """Say that `done` units are done, and of `images` that were worked on in this run `bad` are errors.

        `note` is what else is to be said.
        """
        now = time.monotonic()
        self._last, self._done = (now, done if images is None else images), done
        self._first = self._first or self._last
        counts = [] if images is None else [count(images, "image")] + [f"{bad:,} bad"] * (bad > 0)
        paces = self._pace(self.unit if images is None else "img")
        note = " · ".join(["", *([note] if note else []), *counts, *paces])
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, description=note.removeprefix(" · "))
            return
        self._unsaid = f"{self.unit} {done}/{self.total}{note}"
        if now - self._logged > _LOG_SECONDS:
            say(self._unsaid)
            self._logged, self._unsaid = now, ""

    def summary(self) -> str:
        """For example `250 images in 0:19, 61.3 img/s once running`."""
        said = f"{count(self._last[1], 'image')} in {clock(time.monotonic() - self._started)}"
        return f"{said}, {self.rate:.1f} img/s once running" if self.rate else said

    @property
    def rate(self) -> float:
        """Images (or units) a second since the first were done; 0 before there are two moments to compare."""
        first, last = self._first or self._last, self._last
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] - first[0] > _LEAST_SECONDS else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds until all is done, where that can be told."""
        done, worked, rate = self._done, self._last[1], self.rate
        expected = self.expected or (worked * self.total / done if done else None)
        return max(0.0, expected - worked) / rate if rate and expected else None

    def _pace(self, what: str) -> list[str]:
        if not self.rate:
            return []
        remaining = [] if self.remaining is None else [f"ETA {clock(self.remaining)}"]
        return [f"{self.rate:.1f} {what}/s", *remaining]


@dataclass(slots=True)
class Listing:
    """Says now and then how many objects a long listing has shown: `watch(10_000)`."""

    _logged: float = field(default_factory=time.monotonic)

    def __call__(self, objects: int) -> None:
        """Say that so many have been seen so far."""
        now = time.monotonic()
        if now - self._logged > _LISTING_SECONDS:
            self._logged = now
            say(f"listing  {count(objects, 'object')} so far")


@dataclass(slots=True)
class Transfer:
    """Shows how far a file has come: `with Transfer("resnest50.pth") as transfer: transfer.update(done, total)`."""

    name: str
    _bar: Progress | None = None
    _logged: float = field(default_factory=time.monotonic)

    def __enter__(self) -> "Transfer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Say that `done` bytes of `total` are here; nothing is shown before the first, since most files are here."""
        now = time.monotonic()
        if console.is_terminal:
            self._bar = self._bar or self._started()
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif now - self._logged > _LOG_SECONDS:
            self._logged = now
            of = f" of {total / 1e6:,.0f}" if total else ""
            say(f"{self.name}: {done / 1e6:,.0f}{of} MB")

    def _started(self) -> Progress:
        bar = Progress(TextColumn(self.name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console)
        bar.add_task(self.name, total=None)
        bar.start()
        return bar


def count(number: int, noun: str) -> str:
    """`1 shard`, `2,000 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """`0:09`, `1:05:00`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
