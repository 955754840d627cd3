"""Looking at a store's cells and after them: how far a job is, whether cells are sound, what serves nobody.

Owns what --status, --verify, --retry-failed and --gc say and ask. Refuses to remove anything that was not listed first.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import localtime, strftime, time

from rich.box import SIMPLE_HEAD
from rich.prompt import Confirm
from rich.table import Table

from jobs.console import cli
from jobs.console.progress import Meter, clock, console, count, say
from jobs.steps import fill, preflight
from jobs.steps.fill import is_usable
from jobs.steps.planning import WalkConfig
from pipelines import storage
from pipelines.cells import audit, runs
from pipelines.cells.audit import CellProblem, Garbage
from pipelines.cells.plan import Plan, plan_cells
from pipelines.cells.runs import Run

_SHOWN = 10
"""Runs, the last ones."""


@dataclass(frozen=True, kw_only=True)
class MaintenanceOptions:
    """The options of every job that fills cells."""

    status: bool = False
    """Compute nothing: show what is committed, in flight and failed, and the runs that are at it, wherever they are."""
    verify: bool = False
    """Compute nothing: read every committed cell again, check it against its digest and its shard."""
    retry_failed: bool = False
    """Compute again what may have been a machine's fault: cells that are damaged or have quarantined rows."""


def status(store: str, plan: Plan) -> int:
    """Say how far the cells of `plan` are, and what runs are at work on them or were.

    Returns:
        0 if every cell is committed, else 3.
    """
    found = runs.of_dataset(store, plan.dataset)
    named = {column.name for column in plan.columns}
    living = [run for run in found if run.state == "running" and not run.silent and named.intersection(run.columns)]
    failures = _lasting(found, plan)
    done, flying = plan.needed - plan.pending, sum(run.in_flight for run in living)
    say(f"cells    {done} of {plan.needed} committed, {flying} in flight, {plan.pending} missing")
    shown = found[-_SHOWN:]
    if shown:
        cli.stdout.print(_table(shown))
    for run in shown:
        if fill.RUN in run.failures:
            say(f"ended    {_name(run)}: {' '.join(run.failures[fill.RUN].split())}")
    for what, reason in failures.items():
        say(f"failed   {what}: {' '.join(reason.split())}")
    return cli.UNFINISHED if plan.pending else cli.DONE


def _lasting(found: Sequence[Run], plan: Plan) -> dict[str, str]:
    """What failed and still lacks cells, with the last reason."""
    lacking = {plan.dataset.shards[position].uri for missing in plan.missing for position in missing}
    lacking |= {column.model for column, missing in zip(plan.columns, plan.missing, strict=True) if missing}
    failures = {what: reason for run in found for what, reason in run.failures.items()}
    return {what: reason for what, reason in failures.items() if what in lacking}


def _table(found: Sequence[Run]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("run", "models", "state"):  # on a narrow terminal these are folded, and numbers stay whole
        table.add_column(heading, overflow="fold", min_width=10 if heading == "state" else 4)
    for heading in ("cells", "in flight", "images", "bad", "img/s", "ETA"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in found:
        flying = str(run.in_flight) if run.state == "running" and not run.silent else ""
        eta = clock(run.eta) if run.eta is not None else ""
        numbers = (f"{run.cells}/{run.pending}", flying, f"{run.images:,}", f"{run.bad:,}", f"{run.rate:.1f}", eta)
        table.add_row(_name(run), _models(run), _state(run), *numbers)
    return table


def _name(run: Run) -> str:
    return f"{strftime('%Y-%m-%d %H:%M:%S', localtime(run.started))} {run.host}:{run.pid}"


def _models(run: Run) -> str:
    """The models that it fills cells of, the first of them by name."""
    names = [column.rsplit("-", 2)[0] for column in run.columns]
    return " ".join([*names[:1], *([f"+{len(names) - 1}"] if names[1:] else [])])


def _state(run: Run) -> str:
    if run.state != "running":
        return run.state
    heard = clock(time() - run.updated)
    return f"silent for {heard}; killed?" if run.silent else f"running, {heard} ago"


def verify(store: str, plan: Plan) -> int:
    """Read every committed cell of `plan` again and hold it against what it should be.

    Returns:
        0 if all are there and sound, else 3.
    """
    faults = unread = 0
    for finding in _inspected(store, plan):
        if finding.unread:
            unread += 1
            _say_unread(finding)
        elif finding.fault:
            faults += 1
            say(f"damaged  {finding.uri}: {finding.fault}")
    committed = plan.needed - plan.pending
    say(f"verified {count(committed - unread, 'cell')}: {faults} damaged{f'; {unread} not read' if unread else ''}")
    if faults:
        say("         --retry-failed removes and computes those again")
    if plan.pending:
        say(f"missing  {plan.pending} of {count(plan.needed, 'cell')}")
    return cli.UNFINISHED if faults or unread or plan.pending else cli.DONE


def failed(store: str, plan: Plan) -> list[str]:
    """The cells of `plan` that another attempt may better: damaged ones, and those with quarantined rows.

    One that could not be read is neither: a store that is away is no damage.
    """
    found = []
    for finding in _inspected(store, plan):
        if finding.unread:
            _say_unread(finding)
        elif finding.fault or finding.quarantined:
            say(f"again    {finding.uri}: {finding.fault or count(finding.quarantined, 'quarantined row')}")
            found.append(finding.uri)
    return found


def _say_unread(finding: CellProblem) -> None:
    say(f"unread   {finding.uri}: {finding.fault}")


def _inspected(store: str, plan: Plan) -> Iterator[CellProblem]:
    with Meter("cells", plan.needed - plan.pending) as meter:
        for done, finding in enumerate(audit.inspect(store, plan), 1):
            meter.update(done)
            yield finding


def collect(store: str, *, yes: bool, dry: bool) -> int:
    """List what no plan can reach, and remove it, unless `dry`, if `yes` or the user says so."""
    garbage = audit.garbage(store)
    _list(garbage)
    number = len(garbage.cells) + len(garbage.leftovers)
    if not number:
        say("nothing to remove")
    elif not dry and (yes or _confirmed(number)):
        storage.remove(list(garbage.cells))
        for leftover in garbage.leftovers:
            storage.discard(leftover)
        say(f"removed  {count(number, 'object')}")
    return cli.DONE


def _list(garbage: Garbage) -> None:
    for reason in garbage.kept:
        say(f"kept     {reason}")
    for uri, reason in garbage.cells.items():
        say(f"garbage  {uri}: {reason}")
    for leftover in garbage.leftovers:
        say(f"garbage  {leftover.uri}: a write that never ended")


def _confirmed(number: int) -> bool:
    if not sys.stdin.isatty():
        say(f"nothing was removed; --yes removes {count(number, 'object')}")
        return False
    try:
        agreed = Confirm.ask(f"remove {count(number, 'object')}?", default=False, console=console)
    except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C: on the line of the question
        console.print()
        agreed = False
    if not agreed:
        say("nothing was removed")
    return agreed


def remove_failed(plan: Plan, unusable: dict[str, str], config: WalkConfig) -> None:
    """Remove cells that are damaged or have quarantined rows, so that they are computed again.

    Nothing is removed before it is known that it can be computed again; adds to `unusable` what cannot.
    """
    everything = tuple(range(len(plan.dataset.shards)))
    unusable |= preflight.fetch_weights(replace(plan, missing=(everything,) * len(plan.columns)), bool(unusable))
    usable = [column for column in plan.columns if is_usable(column, unusable)]
    if worth_retrying := failed(config.store, plan_cells(config.store, plan.dataset, usable)):
        fill.require_device(config.device, config.gpus)
        storage.probe(config.store)
        storage.remove(preflight.with_readable_shards(config.store, plan.dataset, usable, worth_retrying))
