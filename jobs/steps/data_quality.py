"""Checks of a dataset, or a model's arithmetic, as a whole: too many errors, labels that are not classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from jobs.console.progress import count, say
from jobs.steps.unlabelled import HOW_TO_LABEL
from pipelines.data.bad_rate import is_too_high
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.evaluation.metrics import LABEL_RANGE, MISSING_LABEL
from pipelines.records import Shard
from pipelines.walk.failures import NON_FINITE

if TYPE_CHECKING:
    from pipelines.evaluation.evaluate import Evaluation
    from pipelines.evaluation.mislabelled import Renumbering
    from zoo.cards import Card

BAD_ROW = ("index", "key", "error", "offset")
"""The columns of a cell that say what is wrong with a row, and where it lies."""
_IMAGENET_CLASSES = 1000


def has_labels(evaluation: "Evaluation") -> bool:
    """Whether any image has a label, in range or not."""
    summary = evaluation.result.summary
    return summary.labelled > 0 or LABEL_RANGE in summary.error_reasons


def bad_images(evaluation: "Evaluation") -> dict[str, int]:
    """The number of images by what is wrong with them; if no image has a label, a missing one is not wrong."""
    ignored = {NON_FINITE} if has_labels(evaluation) else {NON_FINITE, MISSING_LABEL}
    reasons = evaluation.result.summary.error_reasons
    return {reason: number for reason, number in reasons.items() if reason not in ignored}


def reasons_line(reasons: dict[str, int]) -> str:
    """`6 empty file, 2 not an image`: the most frequent first."""
    return ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items(), key=lambda item: -item[1]))


def say_shards(evaluations: "Sequence[Evaluation]") -> None:
    """Print which shards hold no samples, and what was passed over; it is the same for every complete model."""
    fullest = max(evaluations, key=lambda evaluation: evaluation.result.committed)
    if empty := fullest.empty:
        more = ", …" if len(empty) > 3 else ""
        say(f"warning: {count(len(empty), 'shard')} without samples: {', '.join(empty[:3])}{more}")
    if passed := fullest.result.passed_over:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(passed.items(), key=lambda pair: -pair[1]))
        say(f"note     passed over, being no part of a sample: {kinds}")


def bad_row_line(shard: str, index: int, key: str, error: str, offset: int | None) -> str:
    """`first bad row  val/00003.tar, row 17, key 'n01/x', at byte 10240: empty file`: all there is to know of one."""
    at = "" if offset is None else f", at byte {offset}"
    return f"first bad row  {shard}, row {index}, key {key!r}{at}: {' '.join(error.split())}"


def say_first_bad(evaluations: "Sequence[Evaluation]", shards: Sequence[Shard], images_said: bool) -> None:
    """Print the first row that could not be judged whole; if `images_said`, the first whose label alone is at fault."""
    for evaluation in evaluations:
        bad = evaluation.errors.filter(
            pc.is_in(pc.field("reason"), pa.array(list(bad_images(evaluation)), pa.string()))
        )
        bad = bad.filter(pc.is_null(pc.field("error"))) if images_said else bad
        for row in bad.slice(0, 1).to_pylist():
            uri = next(shard.uri for shard in shards if shard.name == row["shard"])
            error = row["error"] or f"{row['reason']} (label {row['label']})"
            say(bad_row_line(uri, row["index"], row["key"], error, row["offset"]))
            return


def doubt_line(card: "Card", found: "Renumbering") -> str:
    """Why the labels seem to be numbered in another way than the classes of the model, with the figures."""
    order = " in the order of the sorted synset ids" if card.num_classes == _IMAGENET_CLASSES else ""
    last = card.num_classes - 1
    return f"labels against the top-1 of {card.name}: {found}; expected labels from 0 to {last}{order}"


def say_doubts(evaluations: "Sequence[Evaluation]") -> None:
    """Warn that labels seem to be numbered in another way, in one line for all models."""
    doubts = [doubt_line(entry.column.card, entry.doubt) for entry in evaluations if entry.doubt]
    if doubts:
        say(f"warning: {doubts[0]}")


def require_right_labels(evaluations: "Sequence[Evaluation]", dataset: EvaluationSet) -> None:
    """Raise if the labels are not those of the evaluation set `dataset`.

    Raises:
        ValueError: if there are none, or they seem to be numbered in another way.
    """
    for evaluation in evaluations:
        if evaluation.doubt:
            raise ValueError(f"--dataset {dataset.name}: {doubt_line(evaluation.column.card, evaluation.doubt)}")
    if dataset.labelled and evaluations and not any(map(has_labels, evaluations)):
        raise ValueError(f"--dataset {dataset.name}: no sample has a label; {HOW_TO_LABEL}")


def require_good_data(evaluations: "Sequence[Evaluation]", max_bad_rate: float) -> None:
    """Raise if the data is wrong as a whole. Its images have been reported as errors before.

    Raises:
        ValueError: if labels are not classes, or more than `max_bad_rate` of the images are bad.
    """
    for evaluation in evaluations:
        summary = evaluation.result.summary
        if wrong := summary.error_reasons.get(LABEL_RANGE):
            subset, last = evaluation.column.subset, evaluation.column.card.num_classes - 1
            expected = f"the {len(subset)} classes of the evaluation set" if subset else f"0 to {last}"
            raise ValueError(f"{count(wrong, 'label')} outside {expected}, counted as errors; see errors.parquet")
        bad = bad_images(evaluation)
        if is_too_high(sum(bad.values()), summary.n, max_bad_rate):
            raise ValueError(
                f"{sum(bad.values())} of {summary.n} images are bad, more than --max-bad-rate {max_bad_rate:g}: "
                f"{reasons_line(bad)}; see errors.parquet"
            )


def overflowed(evaluations: "Sequence[Evaluation]", max_bad_rate: float) -> dict[str, str]:
    """Why models are unusable that gave no finite score for more than `max_bad_rate` of the images, by column."""
    return {
        evaluation.column.name: f"{count(number, 'image')} of {summary.n} with {NON_FINITE}; try another --precision"
        for evaluation in evaluations
        if (number := (summary := evaluation.result.summary).error_reasons.get(NON_FINITE, 0))
        and is_too_high(number, summary.n, max_bad_rate)
    }
