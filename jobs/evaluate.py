"""Evaluates models on a labelled dataset: plan the cells, fill those that are missing, report from what is committed.

    python -m jobs.evaluate --models efficientnet_lite0 --data 's3://bucket/val/{00000..00049}.tar' --store s3://bucket/out
    ray job submit --working-dir . -- python -m jobs.evaluate --models all --data s3://bucket/val --store s3://bucket/out

The same command again continues where the last one stopped, and when nothing is missing only reports. Leaves cells
under STORE/cells, the report under STORE/reports/DATASET-DIGEST and a run per model in MLflow. Exit codes: 0 done,
2 bad arguments or bad data, 3 finished with cells missing or models without weights, each with its reason, 130 and 143
stopped by Ctrl-C and SIGTERM.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.console import cli
from jobs.console.progress import say
from jobs.steps import fill, maintenance, planning, report
from pipelines import storage
from pipelines.cells import inventory
from pipelines.cells.plan import Plan, plan_cells

if TYPE_CHECKING:
    from pipelines.walk.filling import Outcome

_NOTHING = ".probe"
"""A name in the store that nothing has."""
_MODES = ("dry_run", "status", "verify", "retry_failed", "retrack", "gc")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(maintenance.MaintenanceOptions, planning.WalkConfig):
    """Evaluate models on labelled images: top-1 and top-5, calibration and per-class accuracy, from committed cells.

    The same command again continues. Exit codes: 0 done, 2 bad arguments or bad data, 3 cells are missing, 130 and 143
    stopped by Ctrl-C and SIGTERM.
    """

    dry_run: bool = False
    """Print the plan and stop; with --gc, only list."""
    retrack: bool = False
    """Compute nothing: report what is committed and log it to MLflow, for when MLflow was away."""
    gc: bool = False
    """Compute nothing: list what no plan can reach in all of the store (cells of replaced shards), ask, remove it."""
    yes: bool = False
    """Let --gc remove without asking."""
    tracking_uri: str | None = None
    """MLflow server. Where not given, the file mlflow.db in the store, in the working folder where the store is s3://;
    `none` for no tracking."""
    results_file: str | None = None
    """Where to write the results as JSON too."""


def run(config: EvaluateConfig) -> int:
    """Plan, fill, report.

    Returns:
        The exit code: 0 done, 3 finished with cells missing.

    Raises:
        ValueError: if the models, the data or its labels cannot be used.
        FileNotFoundError: if data or weights are not there.
    """
    _check_options(config)
    if config.gc:
        return maintenance.collect(config.store, yes=config.yes, dry=config.dry_run)
    unusable, plan = planning.plan(config)
    planning.say_plan(plan, config)
    if config.status:
        return max(maintenance.status(config.store, plan), report.say_unusable(unusable))
    if config.verify:
        return max(maintenance.verify(config.store, plan), report.say_unusable(unusable))
    if config.dry_run:
        return report.say_unusable(unusable)
    if config.retry_failed:
        maintenance.remove_failed(plan, unusable, config)
        plan = plan_cells(config.store, plan.dataset, plan.columns)
    if config.retrack and plan.pending == plan.needed:
        raise ValueError(f"--retrack: nothing is committed in {config.store} yet; leave it out to evaluate")
    known = planning.evaluation_set(config)
    if said := inventory.note(config.store, plan.dataset, known):
        say(f"warning: {said}")
    outcome = None
    if plan.pending and not config.retrack:
        outcome = fill.run(plan, unusable, config)
        plan = plan_cells(config.store, plan.dataset, plan.columns)
    return _report(plan, outcome, unusable, config)


def _check_options(config: EvaluateConfig) -> None:
    planning.check(config)
    if config.yes and not config.gc:
        raise ValueError("--yes goes with --gc alone")
    _check_what_is_named(config)
    modes = [f"--{mode.replace('_', '-')}" for mode in _MODES if getattr(config, mode)]
    if len(modes) > 1 and modes != ["--dry-run", "--gc"]:
        raise ValueError(f"{' and '.join(modes)}: choose one")
    looks = config.status or config.verify or config.dry_run
    for target in () if looks else (config.results_file, storage.join(config.store, _NOTHING)):
        if target:
            storage.require_writable(target)


def _check_what_is_named(config: EvaluateConfig) -> None:
    for option, given in (("--models", config.models), ("--data", config.data)):
        if config.gc and given:
            raise ValueError(f"{option}: --gc looks at the whole store, whatever the models and data; leave it out")
        if not config.gc and not given:
            raise ValueError(f"{option} is needed: which {option[2:]}? --help says how they are named")


def _report(plan: Plan, outcome: "Outcome | None", unusable: Mapping[str, str], config: EvaluateConfig) -> int:
    speeds = {outcome.plan.columns[i].name: speed for i, speed in outcome.speeds.items()} if outcome else {}
    known = planning.evaluation_set(config)
    tracking, results = config.tracking_uri, config.results_file
    evaluations, damaged = report.report(config.store, plan, results, tracking, speeds, known)
    overflow = report.overflowed(evaluations, config.max_bad_rate)
    if known:
        report.say_verdicts_without_weights(planning.chosen_cards(config), unusable, known)
    code = max(report.say_failures(plan, outcome), report.say_unusable({**unusable, **damaged, **overflow}))
    if outcome and outcome.spoiled:
        raise ValueError(f"stopped by --max-bad-rate {config.max_bad_rate:g}: {outcome.spoiled}")
    report.require_good(evaluations, config.max_bad_rate)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(EvaluateConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
