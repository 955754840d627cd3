"""From committed cells to what the user sees: table, verdicts, files, MLflow, and what is missing or wrong.

Results are written and shown before anything is reported as wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.console import cli
from jobs.console.progress import count, say
from jobs.steps import data_quality, provenance
from jobs.steps.first_rows import LOOKED
from jobs.steps.planning import PlannedRun
from pipelines import storage
from pipelines.cells.plan import Plan
from pipelines.evaluation.report_files import error_lines, result_table, results_json

if TYPE_CHECKING:
    from pipelines.data.evaluation_sets import EvaluationSet
    from pipelines.evaluation.evaluate import Evaluation
    from pipelines.evaluation.verdicts import Verdict
    from pipelines.walk.filling import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Where results go: `results_file` gets them as JSON; `tracking_uri` is the MLflow server, `none` for no tracking.

    None stands for no file, and for the default server.

    More than `max_bad_rate` of the images with errors makes the data, or a model's precision, unusable.
    """

    results_file: str | None
    tracking_uri: str | None
    max_bad_rate: float


def report(planned: PlannedRun, outcome: "Outcome | None", options: ReportOptions) -> int:
    """Show, write and track the results of all committed cells, then say what is missing or wrong.

    Args:
        planned: the run, as it is after filling.
        outcome: what filling left; None if nothing was computed.
        options: where the results go.

    Returns:
        The exit code: 0, or 3 if cells are missing or models unusable.

    Raises:
        ValueError: if the data is wrong as a whole.
    """
    evaluations, damaged = _evaluate(planned)
    _publish(planned, evaluations, _speeds(outcome), options)
    if planned.models.evaluation_set:
        _say_unjudged_claims(planned, planned.models.evaluation_set)
    data_quality.say_first_bad(evaluations, planned.plan.dataset.shards, images_said=outcome is not None)
    overflowed = data_quality.overflowed(evaluations, options.max_bad_rate)
    missing = say_failures(planned.plan, outcome)
    code = max(missing, say_unusable({**planned.unusable, **damaged, **overflowed}))
    require_unspoiled(outcome, options.max_bad_rate)
    if planned.models.evaluation_set:
        data_quality.require_right_labels(evaluations, planned.models.evaluation_set)
    elif outcome is None or outcome.images < LOOKED:  # otherwise it was said while they were scored
        data_quality.say_doubts(evaluations)
    data_quality.require_good_data(evaluations, options.max_bad_rate)
    return code


def _evaluate(planned: PlannedRun) -> "tuple[list[Evaluation], dict[str, str]]":
    """The evaluation of each column with a committed cell, and why damaged columns have none, by name."""
    from pipelines.evaluation import evaluate  # matplotlib and mlflow take a second to load

    evaluations, damaged = [], {}
    for column in planned.plan.columns:
        try:
            found = evaluate.evaluate(
                planned.store, planned.plan, column, planned.models.evaluation_set, planned.models.weights_steps
            )
            evaluations += [found] if found else []
        except ValueError as error:
            damaged[column.name] = str(error)
    return evaluations, damaged


def _publish(
    planned: PlannedRun, evaluations: "list[Evaluation]", speeds: Mapping[str, float], options: ReportOptions
) -> None:
    from pipelines.evaluation import evaluate

    if options.results_file:
        storage.replace(options.results_file, results_json([entry.result for entry in evaluations]))
    if not evaluations:
        say("report   no intact cell is committed, so there is nothing to report")
        return
    folder = evaluate.write(planned.store, planned.plan, evaluations)
    if scored := [entry.result for entry in evaluations if data_quality.has_labels(entry)]:
        cli.stdout.print(result_table(scored))
    data_quality.say_shards(evaluations)
    for entry in evaluations:
        _say_errors(entry)
        for verdict in entry.verdicts:
            _print_verdict(f"{entry.result.model} {entry.result.mode}", verdict)
    say(f"report   {folder}")
    if options.tracking_uri != "none":
        provenance.track(options.tracking_uri, planned.store, planned.plan, evaluations, speeds)


def _speeds(outcome: "Outcome | None") -> dict[str, float]:
    """Images per second by the column's name, of the columns that this command ran."""
    return {outcome.plan.columns[i].name: speed for i, speed in outcome.speeds.items()} if outcome else {}


def _say_unjudged_claims(planned: PlannedRun, evaluation_set: "EvaluationSet") -> None:
    """Print that claims on `evaluation_set` could not be judged for models without weights."""
    from pipelines.evaluation import verdicts

    for card in (card for card in planned.models.cards if card.name in planned.unusable):
        for verdict in verdicts.without_weights(card, planned.unusable[card.name].partition(";")[0]):
            if verdict.claim.dataset == evaluation_set.claims:
                _print_verdict(card.name, verdict)


def _print_verdict(name: str, verdict: "Verdict") -> None:
    cli.stdout.print(f"verdict  {name}: {verdict_line(verdict)}", markup=False, soft_wrap=True)


def verdict_line(verdict: "Verdict") -> str:
    """`top1 claimed 80.96, measured 80.990 (+0.030 points, +15 images): reproduced`."""
    claim = verdict.claim
    measured = "" if verdict.measured is None else f", measured {verdict.measured:.3f}"
    if verdict.points is not None:
        measured += f" ({verdict.points:+.3f} points, {verdict.images:+,d} images)"
    reasons = f" ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
    size = f" at {claim.size} px" if claim.size else ""
    return f"{claim.metric} claimed {claim.value:.2f}{size}{measured}: {verdict.word}{reasons}"


def _say_errors(evaluation: "Evaluation") -> None:
    if not data_quality.has_labels(evaluation):
        say("note     no sample has a label, so there is nothing to score; the predictions are in the cells")
        if bad := data_quality.bad_images(evaluation):
            of = f"{sum(bad.values())} of {evaluation.result.summary.n} images"
            say(f"note     {of} are bad: {data_quality.reasons_line(bad)}")
        return
    for line in error_lines(evaluation.result):
        cli.stdout.print(line, markup=False)
    if evaluation.repeated_keys:
        say(f"warning: {count(evaluation.repeated_keys, 'key')} occur in more than one shard; each occurrence counts")


def say_failures(plan: Plan, outcome: "Outcome | None") -> int:
    """Print which shards failed and how many cells are missing; returns the exit code, 0 or 3."""
    failures = outcome.failures if outcome else {}
    for position, reason in sorted(failures.items()):
        say(f"failed   {plan.dataset.shards[position].uri}: {reason}")
    if outcome and outcome.broken:
        say(f"stopped  the walk broke off: {outcome.broken}")
    if outcome and outcome.spoiled:
        say(f"{plan.pending} of {plan.needed} cells are missing; --max-bad-rate 1 accepts any number of bad images")
    elif plan.pending:
        say(f"{plan.pending} of {plan.needed} cells are missing; fix the cause, then the same command fills them")
    return cli.UNFINISHED if plan.pending or failures else cli.DONE


def say_unusable(unusable: Mapping[str, str]) -> int:
    """Print which models could not be used and why; returns the exit code, 0 or 3."""
    for name, reason in unusable.items():
        say(f"failed   {name}: {' '.join(reason.split())}")
    return cli.UNFINISHED if unusable else cli.DONE


def require_unspoiled(outcome: "Outcome | None", max_bad_rate: float) -> None:
    """Raise ValueError if the walk was stopped because of too many bad images."""
    if outcome and outcome.spoiled:
        raise ValueError(f"stopped by --max-bad-rate {max_bad_rate:g}: {outcome.spoiled}")
