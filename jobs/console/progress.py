"""Progress of long work: a live bar on a terminal, a line every few seconds in a log.

Everything goes to standard error; standard output is for results.
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
"""The shortest time over which a rate is shown: two blocks that arrive together would give thousands of images/s."""
console = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """Print one line to standard error, never wrapped: a path must stay in one piece to be copied."""
    console.print(line, soft_wrap=True, markup=False)


@dataclass(slots=True)
class Meter:
    """Shows `done` of `total` units and a rate: `with Meter("cells", 12) as meter: meter.update(3, images=450)`.

    The rate is in images per second, or in units per second if `update` is called without images.
    """

    unit: str
    total: int
    expected: int | None = None
    """Number of images in total; without it the ETA is extrapolated from the units done."""
    _bar: Progress | None = None
    _started: float = field(default_factory=time.monotonic)
    _first: tuple[float, int] | None = None
    """Time and number at the first update: rates count from there, so that the start of workers does not lower them."""
    _last: tuple[float, int] = (0.0, 0)
    _done: int = 0
    _logged: float = 0.0
    _pending_line: str = ""

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
        elif self._pending_line and kind is None:  # otherwise a log would end before the last unit, as if it hung
            say(self._pending_line)

    def update(self, done: int, images: int | None = None, bad: int = 0, note: str = "") -> None:
        """Show that `done` units are done.

        Args:
            done: units.
            images: images processed in this run.
            bad: how many of these are errors.
            note: further text for the line.
        """
        now = time.monotonic()
        self._last, self._done = (now, done if images is None else images), done
        self._first = self._first or self._last
        counts = [] if images is None else [count(images, "image")] + [f"{bad:,} bad"] * (bad > 0)
        speed = self._speed(self.unit if images is None else "img")
        note = " · ".join(["", *([note] if note else []), *counts, *speed])
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, description=note.removeprefix(" · "))
            return
        self._pending_line = f"{self.unit} {done}/{self.total}{note}"
        if now - self._logged > _LOG_SECONDS:
            say(self._pending_line)
            self._logged, self._pending_line = now, ""

    def summary(self) -> str:
        """For example `250 images in 0:19, 61.3 img/s once running`."""
        total = f"{count(self._last[1], 'image')} in {clock(time.monotonic() - self._started)}"
        return f"{total}, {self.rate:.1f} img/s once running" if self.rate else total

    @property
    def rate(self) -> float:
        """Images (or units) per second since the first update; 0 until there are two updates to compare."""
        first, last = self._first or self._last, self._last
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] - first[0] > _LEAST_SECONDS else 0.0

    @property
    def remaining(self) -> float | None:
        """Estimated seconds until everything is done, if there is a rate yet."""
        done, worked, rate = self._done, self._last[1], self.rate
        expected = self.expected or (worked * self.total / done if done else None)
        return max(0.0, expected - worked) / rate if rate and expected else None

    def _speed(self, what: str) -> list[str]:
        if not self.rate:
            return []
        remaining = [] if self.remaining is None else [f"ETA {clock(self.remaining)}"]
        return [f"{self.rate:.1f} {what}/s", *remaining]


@dataclass(slots=True)
class Listing:
    """Prints the number of objects listed so far every few seconds: `watch(10_000)`."""

    _logged: float = field(default_factory=time.monotonic)

    def __call__(self, objects: int) -> None:
        """Report that `objects` have been listed so far."""
        now = time.monotonic()
        if now - self._logged > _LISTING_SECONDS:
            self._logged = now
            say(f"listing  {count(objects, 'object')} so far")


@dataclass(slots=True)
class Transfer:
    """Shows the progress of a download: `with Transfer("resnest50.pth") as transfer: transfer.update(done, total)`."""

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
        """Show that `done` bytes of `total` have arrived; a file that needs no transfer shows nothing."""
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
