"""From committed cells to what the user sees: table, files, MLflow, and what is missing or wrong.

Owns the order: what was computed is written down before anything is complained of. Refuses to look at a running job.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jobs.console import cli
from jobs.console.progress import count, say
from jobs.steps import provenance
from pipelines import storage
from pipelines.cells.plan import Plan
from pipelines.data.bad_rate import is_too_high
from pipelines.evaluation.metrics import LABEL_RANGE, MISSING_LABEL
from pipelines.evaluation.report_files import error_lines, result_table, results_json
from pipelines.walk.failures import NON_FINITE

if TYPE_CHECKING:
    from pipelines.data.evaluation_sets import EvaluationSet
    from pipelines.evaluation.evaluate import Evaluation
    from pipelines.evaluation.verdicts import Verdict
    from pipelines.walk.filling import Outcome
    from zoo.cards import Card


def report(
    store: str,
    plan: Plan,
    results_file: str | None,
    tracking_uri: str | None,
    speeds: Mapping[str, float],
    kind: "EvaluationSet | None",
) -> "tuple[list[Evaluation], dict[str, str]]":
    """Fold the committed cells of `plan` into results, and show, write and track them.

    Args:
        store: where the cells are.
        plan: which.
        results_file: where the results go as JSON too.
        tracking_uri: MLflow's; `none` for no tracking.
        speeds: images a second by the column's name, of those that this command ran.
        kind: the evaluation set that the dataset is a copy of, where that was said.

    Returns:
        The evaluations, and why columns have none, by name, where a cell is damaged.
    """
    from pipelines.evaluation import evaluate  # matplotlib and mlflow take a second

    done, damaged = [], {}
    for column in plan.columns:
        try:
            done.append(evaluate.evaluate(store, plan, column, kind))
        except ValueError as error:
            damaged[column.name] = str(error)
    done = [entry for entry in done if entry]
    results = [entry.result for entry in done]
    if results_file:
        storage.replace(results_file, results_json(results))
    if not done:
        say("report   nothing sound is committed, so there is nothing to report")
        return done, damaged
    folder = evaluate.write(store, plan, done)
    if scored := [entry for entry in done if _has_labels(entry)]:
        cli.stdout.print(result_table([entry.result for entry in scored]))
    for entry in done:
        _say_what_is_not_scored(entry)
        for verdict in entry.verdicts:
            cli.stdout.print(_told(entry, verdict), markup=False, soft_wrap=True)
    say(f"report   {folder}")
    if tracking_uri != "none":
        provenance.track(tracking_uri, store, plan, done, speeds)
    return done, damaged


def say_verdicts_without_weights(cards: "Sequence[Card]", unusable: Mapping[str, str], kind: "EvaluationSet") -> None:
    """Say of each claim on the set `kind` of a model that could not be used that it could not be judged."""
    from pipelines.evaluation import verdicts

    for card in cards:
        for verdict in (
            verdicts.without_weights(card, unusable[card.name].partition(";")[0]) if card.name in unusable else ()
        ):
            if verdict.claim.dataset == kind.claims:
                cli.stdout.print(f"verdict  {card.name}: {_judged(verdict)}", markup=False, soft_wrap=True)


def _told(entry: "Evaluation", verdict: "Verdict") -> str:
    return f"verdict  {entry.result.model} {entry.result.mode}: {_judged(verdict)}"


def _judged(verdict: "Verdict") -> str:
    claim = verdict.claim
    measured = "" if verdict.measured is None else f", measured {verdict.measured:.3f}"
    if verdict.points is not None:
        measured += f" ({verdict.points:+.3f} points, {verdict.images:+,d} images)"
    reasons = f" ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
    size = f" at {claim.size} px" if claim.size else ""
    return f"{claim.metric} claimed {claim.value:.2f}{size}{measured}: {verdict.word}{reasons}"


def _has_labels(entry: "Evaluation") -> bool:
    summary = entry.result.summary
    return summary.labelled > 0 or LABEL_RANGE in summary.error_reasons


def _say_what_is_not_scored(entry: "Evaluation") -> None:
    if not _has_labels(entry):
        say("note     no sample has a label, so there is nothing to score; the predictions are in the cells")
        if bad := _bad(entry):
            say(f"note     {sum(bad.values())} of {entry.result.summary.n} images are bad: {_counted(bad)}")
        return
    for line in error_lines(entry.result):
        cli.stdout.print(line, markup=False)
    if entry.repeated_keys:
        say(f"warning: {count(entry.repeated_keys, 'key')} stand in more than one shard; each is counted")


def require_good(evaluations: "Sequence[Evaluation]", max_bad_rate: float) -> None:
    """Refuse data that is wrong as a whole; its pictures are reported as errors before.

    Raises:
        ValueError: if labels are no class, or more than `max_bad_rate` of the pictures are errors.
    """
    for entry in evaluations:
        summary = entry.result.summary
        if wrong := summary.error_reasons.get(LABEL_RANGE):
            subset, last = entry.column.subset, entry.column.card.num_classes - 1
            expected = f"the {len(subset)} classes that count" if subset else f"0 to {last}"
            raise ValueError(f"{count(wrong, 'label')} outside {expected}, counted as errors; see errors.parquet")
        bad = _bad(entry)
        if is_too_high(sum(bad.values()), summary.n, max_bad_rate):
            raise ValueError(
                f"{sum(bad.values())} of {summary.n} images are bad, more than --max-bad-rate {max_bad_rate:g}: "
                f"{_counted(bad)}; see errors.parquet"
            )


def overflowed(evaluations: "Sequence[Evaluation]", max_bad_rate: float) -> dict[str, str]:
    """Which models gave no number for more images than `max_bad_rate` allows, and why, by column."""
    return {
        entry.column.name: f"{count(number, 'image')} of {summary.n} with {NON_FINITE}; take another --precision"
        for entry in evaluations
        if (number := (summary := entry.result.summary).error_reasons.get(NON_FINITE, 0))
        and is_too_high(number, summary.n, max_bad_rate)
    }


def _bad(entry: "Evaluation") -> dict[str, int]:
    """Images by what is wrong with them; where none has a label, lacking one is not wrong."""
    passed_over = {NON_FINITE} if _has_labels(entry) else {NON_FINITE, MISSING_LABEL}
    reasons = entry.result.summary.error_reasons
    return {reason: number for reason, number in reasons.items() if reason not in passed_over}


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items(), key=lambda item: -item[1]))


def say_failures(plan: Plan, outcome: "Outcome | None") -> int:
    """Say which shards failed and whether cells are missing; the exit code that follows."""
    failures = outcome.failures if outcome else {}
    for position, reason in sorted(failures.items()):
        say(f"failed   {plan.dataset.shards[position].uri}: {reason}")
    if outcome and outcome.broken:
        say(f"stopped  the walk broke off: {outcome.broken}")
    if outcome and outcome.spoiled:
        say(f"{plan.pending} of {plan.needed} cells are missing; --max-bad-rate 1 takes the data as it is")
    elif plan.pending:
        say(f"{plan.pending} of {plan.needed} cells are missing; once the cause is mended, the same command fills them")
    return cli.UNFINISHED if plan.pending or failures else cli.DONE


def say_unusable(unusable: Mapping[str, str]) -> int:
    """Say which models could not be used; the exit code that follows."""
    for name, reason in unusable.items():
        say(f"failed   {name}: {' '.join(reason.split())}")
    return cli.UNFINISHED if unusable else cli.DONE
