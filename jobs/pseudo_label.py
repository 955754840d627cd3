"""Scores a pool with a teacher: the most probable classes of each image, as cells for `jobs.select_topk`.

    python -m jobs.pseudo_label --models resnest50d --data 's3://bucket/yfcc/{0000..9999}.tar' --store s3://bucket/out
    python -m jobs.pseudo_label --models resnest50d,ssl_resnext50_32x4d --data s3://bucket/pool --store s3://bucket/out

Several models are one teacher: their probabilities are averaged. Cells and the way they are filled are those of
`jobs.evaluate`; the same command again continues where it stopped. Labels of the pool are kept for reports and used
for nothing else; an image whose label is not an integer is a bad one. Exit codes: 0 done, 2 bad arguments or bad data,
3 cells are missing, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.console import cli
from jobs.console.progress import count, say
from jobs.steps import fill, maintenance, options, planning, report, teachers
from jobs.steps.options import MaintenanceMode
from jobs.steps.plan_summary import say_plan
from jobs.steps.planning import PlannedRun
from pipelines.cells import inventory
from pipelines.walk.options import RunOptions

_FLAGS: tuple[MaintenanceMode, ...] = ("dry_run", "status", "verify", "retry_failed")


@dataclass(frozen=True, kw_only=True)
class PseudoLabelConfig(options.MaintenanceOptions, teachers.TeacherConfig):
    """Score a pool of images with a teacher: one model, or several whose probabilities are averaged.

    The pool needs no labels. The same command again continues where it stopped. Exit codes: 0 done, 2 bad arguments or
    bad data, 3 cells are missing, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """

    dry_run: bool = False
    """Print the plan and its cost, then stop."""


def run(config: PseudoLabelConfig) -> int:
    """Plan and fill.

    Returns:
        The exit code: 0 done, 3 cells are missing.

    Raises:
        ValueError: if the models or the pool cannot be used.
        FileNotFoundError: if the pool or the weights do not exist.
    """
    teachers.check(config)
    mode = options.chosen_mode(config, _FLAGS, "fill")
    if mode not in options.READ_ONLY:
        options.require_writable_folder(config.store)
    planned, how = teachers.plan_run(config), planning.run_options(config)
    say_plan(planned, how)
    if mode == "status":
        return maintenance.status(planned.store, planned.plan)
    if mode == "verify":
        return maintenance.verify(planned.store, planned.plan)
    if mode == "dry_run":
        fill.checked(planned, how, labelled=False)
        return cli.DONE
    if mode == "retry_failed":
        planned = maintenance.remove_failed(planned, how)
    if warning := inventory.note(planned.store, planned.plan.dataset, planned.models.evaluation_set):
        say(f"warning: {warning}")
    return _fill(planned, how)


def _fill(planned: PlannedRun, how: RunOptions) -> int:
    """Fill the missing cells and print how many are committed; returns the exit code."""
    outcome = None
    if planned.plan.pending:
        filled = fill.run(planned, how, labelled=False)
        planned, outcome = filled.planned, filled.outcome
    plan = planned.plan
    code = max(report.say_failures(plan, outcome), report.say_unusable(planned.unusable))
    report.require_unspoiled(outcome, how.max_bad_rate)
    (column,) = plan.columns
    cli.stdout.print(f"{column.name}: {plan.needed - plan.pending:,} of {count(plan.needed, 'cell')} committed")
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(PseudoLabelConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
