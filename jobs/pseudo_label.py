"""Scores a pool with a teacher: of each image the most probable classes, as cells for `jobs.select_topk`.

    python -m jobs.pseudo_label --models resnest50d --data 's3://bucket/yfcc/{0000..9999}.tar' --store s3://bucket/out
    python -m jobs.pseudo_label --models resnest50d,ssl_resnext50_32x4d --data s3://bucket/pool --store s3://bucket/out

Several models are one teacher: their probabilities are averaged. The same walk and cells as in `jobs.evaluate`; the
same command again continues. Labels in the pool are kept, and used in reports alone; one that is no integer makes its
image a bad one. Exit codes: 0 done, 2 bad arguments or bad data, 3 finished with cells missing, 130 and 143 stopped by
Ctrl-C and SIGTERM.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.console import cli
from jobs.console.progress import count, say
from jobs.steps import fill, maintenance, planning, report, teachers
from pipelines import storage
from pipelines.cells import inventory
from pipelines.cells.plan import plan_cells

_NOTHING = ".probe"
"""A name in the store that nothing has."""
_MODES = ("dry_run", "status", "verify", "retry_failed")


@dataclass(frozen=True, kw_only=True)
class PseudoLabelConfig(maintenance.MaintenanceOptions, teachers.TeacherConfig):
    """Score a pool of images with a teacher, one model or several that are averaged; labels are not needed.

    The same command again continues. Exit codes: 0 done, 2 bad arguments or bad data, 3 cells are missing, 130 and 143
    stopped by Ctrl-C and SIGTERM.
    """

    dry_run: bool = False
    """Print the plan and stop."""


def run(config: PseudoLabelConfig) -> int:
    """Plan and fill.

    Returns:
        The exit code: 0 done, 3 finished with cells missing.

    Raises:
        ValueError: if the models or the pool cannot be used.
        FileNotFoundError: if the pool or weights are not there.
    """
    _check(config)
    plan = teachers.plan(config)
    planning.say_plan(plan, config)
    if config.status:
        return maintenance.status(config.store, plan)
    if config.verify:
        return maintenance.verify(config.store, plan)
    if config.dry_run:
        return cli.DONE
    unusable: dict[str, str] = {}
    if config.retry_failed:
        maintenance.remove_failed(plan, unusable, config)
        plan = plan_cells(config.store, plan.dataset, plan.columns)
    if said := inventory.note(config.store, plan.dataset, planning.evaluation_set(config)):
        say(f"warning: {said}")
    outcome = fill.run(plan, unusable, config, labelled=False) if plan.pending else None
    plan = plan_cells(config.store, plan.dataset, plan.columns)
    code = max(report.say_failures(plan, outcome), report.say_unusable(unusable))
    if outcome and outcome.spoiled:
        raise ValueError(f"stopped by --max-bad-rate {config.max_bad_rate:g}: {outcome.spoiled}")
    (column,) = plan.columns
    cli.stdout.print(f"{count(plan.needed - plan.pending, 'cell')} of {plan.needed:,} of {column.name} committed")
    return code


def _check(config: PseudoLabelConfig) -> None:
    teachers.check(config)
    modes = [f"--{mode.replace('_', '-')}" for mode in _MODES if getattr(config, mode)]
    if len(modes) > 1:
        raise ValueError(f"{' and '.join(modes)}: choose one")
    if not (config.status or config.verify or config.dry_run):
        storage.require_writable(storage.join(config.store, _NOTHING))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(PseudoLabelConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
