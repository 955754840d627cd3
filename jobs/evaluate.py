"""Evaluates models on a labelled dataset: plan the cells, fill the missing ones, report from the committed ones.

    python -m jobs.evaluate --models efficientnet_lite0 --data 's3://bucket/val/{00000..00049}.tar' --store s3://bucket/out
    ray job submit --working-dir . -- python -m jobs.evaluate --models all --data s3://bucket/val --store s3://bucket/out

The same command again continues where it stopped; if no cell is missing, it only reports. It leaves cells under
STORE/cells, the report under STORE/reports/DATASET-DIGEST and one run for each model in MLflow.
Exit codes: 0 done, 2 bad arguments or bad data, 3 cells are missing or models have no weights, each with its reason,
130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.console import cli
from jobs.console.progress import say
from jobs.steps import fill, maintenance, options, planning, report
from jobs.steps.plan_summary import say_plan
from jobs.steps.planning import PlannedRun
from jobs.steps.report import ReportOptions
from pipelines import storage
from pipelines.cells import inventory

Mode = Literal[options.MaintenanceMode, "retrack", "gc"]
_FLAGS: tuple[Mode, ...] = ("dry_run", "status", "verify", "retry_failed", "retrack", "gc")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(options.MaintenanceOptions, options.WalkConfig):
    """Evaluate models on labelled images: top-1 and top-5, calibration and per-class accuracy, from committed cells.

    The same command again continues where it stopped. Exit codes: 0 done, 2 bad arguments or bad data, 3 cells are
    missing or models have no weights, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """

    dry_run: bool = False
    """Print the plan and its cost, then stop; with --gc, list only."""
    retrack: bool = False
    """Compute nothing: report what is committed and log it to MLflow, for results that MLflow missed."""
    gc: bool = False
    """Compute nothing: list what no plan can reach in the store's own folders (cells of replaced shards,
    unfinished writes), ask, and remove it."""
    yes: bool = False
    """Let --gc remove without asking."""
    tracking_uri: str | None = None
    """MLflow server; `none` for no tracking.
    The default is the file mlflow.db in the store, or in the working directory if the store is s3://."""
    results_file: str | None = None
    """File (path or URI) to which the results are also written as JSON."""


def run(config: EvaluateConfig) -> int:
    """Plan, fill, report.

    Returns:
        The exit code: 0 done, 3 cells are missing or models unusable.

    Raises:
        ValueError: if the models, the data or its labels cannot be used.
        FileNotFoundError: if the data or the weights do not exist.
    """
    mode = _mode(config)
    _check(config, mode)
    if mode == "gc":
        return maintenance.collect(config.store, yes=config.yes, dry=config.dry_run)
    planned, how = planning.plan_run(config), planning.run_options(config)
    say_plan(planned, how)
    if mode == "dry_run":
        planned, _ = fill.checked(planned, how)
    if mode in options.READ_ONLY:
        return max(_look(planned, mode), report.say_unusable(planned.unusable))
    if mode == "retry_failed":
        planned = maintenance.remove_failed(planned, how)
    if mode == "retrack" and planned.plan.pending == planned.plan.needed:
        raise ValueError(f"--retrack: nothing is committed in {config.store} yet; leave it out to evaluate")
    if warning := inventory.note(planned.store, planned.plan.dataset, planned.models.evaluation_set):
        say(f"warning: {warning}")
    outcome = None
    if planned.plan.pending and mode != "retrack":
        filled = fill.run(planned, how)
        planned, outcome = filled.planned, filled.outcome
    return report.report(planned, outcome, _report_options(config))


def _look(planned: PlannedRun, mode: Mode) -> int:
    """What --status, --verify and --dry-run show beyond the plan; returns the exit code."""
    looks = {"status": maintenance.status, "verify": maintenance.verify}
    return looks[mode](planned.store, planned.plan) if mode in looks else cli.DONE


def _mode(config: EvaluateConfig) -> Mode:
    """What the flags ask for; --dry-run with --gc is a --gc that only lists."""
    flags: tuple[Mode, ...] = tuple(flag for flag in _FLAGS if not (flag == "dry_run" and config.gc))
    return options.chosen_mode(config, flags, "fill")


def _check(config: EvaluateConfig, mode: Mode) -> None:
    options.check(config)
    if config.yes and mode != "gc":
        raise ValueError("--yes goes with --gc only")
    if mode != "gc":
        options.require_models_and_data(config)
    for option, given in (("--models", config.models), ("--data", config.data)):
        if mode == "gc" and given:
            raise ValueError(f"{option}: --gc does not depend on models and data; leave it out")
    if mode not in options.READ_ONLY and not config.dry_run:
        if config.results_file:
            storage.require_writable(config.results_file)
        options.require_writable_folder(config.store)


def _report_options(config: EvaluateConfig) -> ReportOptions:
    return ReportOptions(
        results_file=config.results_file, tracking_uri=config.tracking_uri, max_bad_rate=config.max_bad_rate
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(EvaluateConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
