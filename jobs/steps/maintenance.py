"""What --status, --verify, --retry-failed and --gc do: show, check, remove and recompute a store's cells.

Nothing is removed that was not listed first.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import localtime, strftime, time

from rich.prompt import Confirm
from rich.table import Table

from jobs.console import cli
from jobs.console.progress import Meter, clock, console, count, say
from jobs.console.tables import plain_table
from jobs.steps import cluster, fill, preflight
from jobs.steps.planning import PlannedRun
from pipelines import storage
from pipelines.cells import audit, runs
from pipelines.cells.audit import CellFinding, Garbage
from pipelines.cells.plan import Plan
from pipelines.cells.runs import Run
from pipelines.walk.options import RunOptions

_SHOWN_RUNS = 10


def status(store: str, plan: Plan) -> int:
    """Print how many cells of `plan` are committed, and the last runs on the dataset.

    Returns:
        0 if every cell is committed, else 3.
    """
    found = runs.of_dataset(store, plan.dataset)
    names = {column.name for column in plan.columns}
    active = [run for run in found if run.state == "running" and not run.silent and names.intersection(run.columns)]
    done, in_flight = plan.needed - plan.pending, sum(run.in_flight for run in active)
    say(f"cells    {done} of {plan.needed} committed, {in_flight} in flight, {plan.pending} missing")
    shown = found[-_SHOWN_RUNS:]
    if shown:
        cli.stdout.print(_runs_table(shown))
    for run in shown:
        if fill.RUN in run.failures:
            say(f"run      {_run_name(run)} ended: {' '.join(run.failures[fill.RUN].split())}")
    for what, reason in _unresolved_failures(found, plan).items():
        say(f"failed   {what}: {' '.join(reason.split())}")
    return cli.UNFINISHED if plan.pending else cli.DONE


def _unresolved_failures(found: Sequence[Run], plan: Plan) -> dict[str, str]:
    """The last reason of each shard and model that failed and still lacks cells."""
    lacking = {plan.dataset.shards[position].uri for missing in plan.missing for position in missing}
    lacking |= {column.model for column, missing in zip(plan.columns, plan.missing, strict=True) if missing}
    failures = {what: reason for run in found for what, reason in run.failures.items()}
    return {what: reason for what, reason in failures.items() if what in lacking}


def _runs_table(found: Sequence[Run]) -> Table:
    numeric = ("cells", "in flight", "images", "bad", "img/s", "ETA")
    table = plain_table(("run", "models", "state", *numeric), right=numeric, whole=numeric)
    for column, width in zip(table.columns[:3], (4, 4, 10), strict=True):
        column.min_width = width
    for run in found:
        in_flight = str(run.in_flight) if run.state == "running" and not run.silent else ""
        eta = clock(run.eta) if run.eta is not None else ""
        rate = f"{run.rate:.1f}" if run.rate else ""
        numbers = (f"{run.cells}/{run.pending}", in_flight, f"{run.images:,}", f"{run.bad:,}", rate, eta)
        table.add_row(_run_name(run), _models_label(run), _state_label(run), *numbers)
    return table


def _run_name(run: Run) -> str:
    return f"{strftime('%Y-%m-%d %H:%M:%S', localtime(run.started))} {run.host}:{run.pid}"


def _models_label(run: Run) -> str:
    """The first of the run's models, and how many more there are."""
    names = [column.rsplit("-", 2)[0] for column in run.columns]
    return " ".join([*names[:1], *([f"+{len(names) - 1}"] if names[1:] else [])])


def _state_label(run: Run) -> str:
    if run.state != "running":
        return run.state
    age = clock(time() - run.updated)
    return f"silent for {age}; killed?" if run.silent else f"running, {age} ago"


def verify(store: str, plan: Plan) -> int:
    """Read every committed cell of `plan` again and check it.

    Returns:
        0 if every cell is committed and intact, else 3.
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


def _cells_to_retry(store: str, plan: Plan) -> list[str]:
    """URIs of the cells of `plan` that are damaged or have quarantined rows.

    A cell that could not be read is not among them: an unavailable store does not mean damage.
    """
    found = []
    for finding in _inspected(store, plan):
        if finding.unread:
            _say_unread(finding)
        elif finding.fault or finding.quarantined:
            say(f"again    {finding.uri}: {finding.fault or count(finding.quarantined, 'quarantined row')}")
            found.append(finding.uri)
    return found


def _say_unread(finding: CellFinding) -> None:
    say(f"unread   {finding.uri}: {finding.fault}")


def _inspected(store: str, plan: Plan) -> Iterator[CellFinding]:
    with Meter("cells", plan.needed - plan.pending) as meter:
        for done, finding in enumerate(audit.inspect(store, plan), 1):
            meter.update(done)
            yield finding


def collect(store: str, *, yes: bool, dry: bool) -> int:
    """List what no plan can reach, and remove it unless `dry`, after the user's consent unless `yes`."""
    garbage = audit.garbage(store)
    _say_garbage(garbage)
    number = len(garbage.cells) + len(garbage.leftovers)
    if not number:
        say("nothing to remove")
    elif not dry and (yes or _confirmed(number)):
        storage.remove(list(garbage.cells))
        for leftover in garbage.leftovers:
            storage.discard(leftover)
        say(f"removed  {count(number, 'object')}")
    return cli.DONE


def _say_garbage(garbage: Garbage) -> None:
    for reason in garbage.kept:
        say(f"kept     {reason}")
    for uri, reason in garbage.cells.items():
        say(f"garbage  {uri}: {reason}")
    for leftover in garbage.leftovers:
        say(f"garbage  {leftover.uri}: an unfinished write")


def _confirmed(number: int) -> bool:
    if not sys.stdin.isatty():
        say(f"nothing was removed; --yes removes {count(number, 'object')}")
        return False
    try:
        agreed = Confirm.ask(f"remove {count(number, 'object')}?", default=False, console=console)
    except (EOFError, KeyboardInterrupt):  # Ctrl-D or Ctrl-C, which leave the cursor behind the question
        console.print()
        agreed = False
    if not agreed:
        say("nothing was removed")
    return agreed


def remove_failed(planned: PlannedRun, options: RunOptions) -> PlannedRun:
    """Remove the cells that are damaged or have quarantined rows, so that they are computed again.

    A cell is removed only once weights, shard, device and store are known to be available for computing it again.

    Returns:
        The run without those cells, and without the models whose weights are not available.
    """
    every_shard = tuple(range(len(planned.plan.dataset.shards)))
    whole = replace(planned.plan, missing=(every_shard,) * len(planned.plan.columns))
    planned = planned.excluding(preflight.fetch_weights(whole, bool(planned.unusable)))
    usable = planned.usable_columns()
    if to_retry := _cells_to_retry(planned.store, planned.plan_of(usable)):
        cluster.require_device(options.device, options.gpus)
        storage.probe(planned.store)
        storage.remove(preflight.with_readable_shards(planned.store, planned.plan.dataset, usable, to_retry))
    return planned.refreshed()
