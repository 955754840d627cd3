"""Checks before Ray starts: are weights available, shards readable, and samples sound?

Only faults of a whole model, shard or dataset are found here; a bad image becomes a row with its reason.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jobs.console.progress import count, say
from jobs.steps.probes import Probe, probe
from pipelines.cells.cell import cell_uri
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.data import read
from pipelines.data.bad_rate import is_too_high, is_too_high_so_far
from pipelines.data.suffixes import is_parquet
from pipelines.messages import one_line
from pipelines.models import mirror
from pipelines.records import Dataset, Shard

_FETCHES = 8
"""Weights files fetched at once; most of the time each waits for a server."""


def fetch_weights(plan: Plan, others: bool) -> dict[str, str]:
    """Fetch the weights of the models of `plan` that are neither on this machine nor in the store.

    Args:
        plan: only models with missing cells need weights.
        others: whether the run has further models besides those of `plan`.

    Returns:
        Why weights are not available, by the model's name.

    Raises:
        FileNotFoundError: if no model's weights are available and there are no `others`.
    """
    lacking = [column for column, missing in zip(plan.columns, plan.missing, strict=True) if missing]
    by_model = {member.card.name: member for column in lacking for member in column.members}.values()
    remote = [column for column in by_model if not mirror.is_near(column.file)]
    if remote:
        say(f"fetching {count(len(remote), 'weights file')}, neither on this machine nor in the store")
    with ThreadPoolExecutor(_FETCHES) as pool:
        reasons = dict(zip((column.card.name for column in remote), pool.map(_fetch, remote), strict=True))
    absent = {name: reason for name, reason in reasons.items() if reason}
    if len(absent) == len({member.card.name for column in plan.columns for member in column.members}) and not others:
        raise FileNotFoundError("; ".join(f"{name}: {reason}" for name, reason in absent.items()))
    return absent


def _fetch(column: Column) -> str | None:
    try:
        mirror.obtain(column.file)
    except FileNotFoundError as error:
        return one_line(error)
    say(f"fetched  {column.file.file}")
    return None


def with_readable_shards(store: str, dataset: Dataset, columns: Sequence[Column], uris: Sequence[str]) -> list[str]:
    """Those of the cells `uris` whose shard can be read to its end; prints why the others are kept."""
    wanted, reasons = set(uris), {}
    cells = ((cell_uri(store, dataset, column, shard), shard) for column in columns for shard in dataset.shards)
    readable = []
    for uri, shard in ((uri, shard) for uri, shard in cells if uri in wanted):
        if shard.uri not in reasons:
            reasons[shard.uri] = _read_failure(shard)
        if reason := reasons[shard.uri]:
            say(f"kept     {uri}: its shard cannot be read now: {reason}")
        else:
            readable.append(uri)
    return readable


def _read_failure(shard: Shard) -> str | None:
    """Why the shard cannot be read to its end, if it cannot."""
    try:
        for _ in read.samples(shard):
            pass
    except (read.ShardError, OSError) as error:
        return str(error)
    return None


def probed(plan: Plan, max_bad_rate: float) -> list[Probe]:
    """Read samples of several shards, before the first cell of `plan` is computed.

    Returns:
        What was read; nothing if a cell is committed already.

    Raises:
        ValueError: if no shard can be read, there is no sample, or too many samples have an error.
        UnavailableError: if the data's store is unavailable.
    """
    if plan.pending != plan.needed:
        return []
    probes = probe(plan.dataset)
    _require_readable(probes, plan.dataset)
    _require_samples(probes, plan.dataset)
    _require_good_samples(probes, plan.dataset, max_bad_rate)
    _say_what_is_left_out(probes)
    return probes


def _say_what_is_left_out(probes: Sequence[Probe]) -> None:
    """Print which of the shards that were tried cannot be read, and what was passed over in the others."""
    for entry in probes:
        if entry.failure:
            say(f"warning: {entry.shard.uri}: {entry.failure}")
    passed = sum((Counter(entry.passed) for entry in probes), Counter[str]())
    if passed:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in passed.most_common())
        rows = sum(len(entry.keys) for entry in probes)
        say(f"note     beside the {count(rows, 'sample')} that were read, passed over: {kinds}")


def _require_readable(probes: Sequence[Probe], dataset: Dataset) -> None:
    reasons = [f"{entry.shard.uri}: {entry.failure}" for entry in probes if entry.failure]
    if len(reasons) == len(dataset.shards):
        raise ValueError(f"no shard can be read ({len(reasons)} tried); {reasons[0]}")


def _require_samples(probes: Sequence[Probe], dataset: Dataset) -> None:
    """Raise ValueError if all shards are empty."""
    opened = [entry for entry in probes if not entry.failure]
    if not any(entry.keys for entry in opened) and len(opened) == len(dataset.shards):
        kinds = sorted({kind for entry in opened for kind in entry.passed})
        others = f"; the members are no pictures: {', '.join(kinds)}" if kinds else ""
        raise ValueError(f"{dataset.source}: no sample in {count(len(opened), 'shard')}{others}")


def _require_good_samples(probes: Sequence[Probe], dataset: Dataset, max_bad_rate: float) -> None:
    """Raise ValueError if every sample that was read has an error, or so many that the walk would stop."""
    rows = [(entry, *row) for entry in probes for row in zip(entry.keys, entry.errors, strict=True)]
    bad = [(entry, key, error) for entry, key, error in rows if error]
    if not bad or max_bad_rate == 1:
        return
    every = len(probes) == len(dataset.shards) and all(entry.whole for entry in probes)
    judge = is_too_high if every else is_too_high_so_far
    if len(bad) == len(rows) or judge(len(bad), len(rows), max_bad_rate):
        entry, key, error = bad[0]
        raise ValueError(
            f"{entry.shard.uri}: {len(bad)} of the {count(len(rows), 'sample')} that were read cannot be used; "
            f"the first, {key!r}: {error}{_remedy(error, entry.shard)}"
        )


def _remedy(error: str, shard: Shard) -> str:
    """What helps where the error of a row alone does not say it."""
    if error.startswith("duplicate key") and is_parquet(shard.uri):
        return "; --key-column ROW numbers the rows"
    if error.startswith("bad label") and "integer" in error:
        return "; --label-member, --label-from or --label-column takes others, jobs.pack_shards --classes numbers names"
    return ""
