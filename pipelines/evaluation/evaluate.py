"""Committed cells -> a model's result and verdicts, the files of its report, its MLflow record.

Reads committed cells only, never a running job's memory: a resumed evaluation and an uninterrupted one leave the same
bytes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce

import pyarrow as pa

from pipelines import storage
from pipelines.cells import runs
from pipelines.cells.cell import load_cells, passed_over
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.data.evaluation_sets import EvaluationSet, numberings_of
from pipelines.evaluation import metrics
from pipelines.evaluation.mislabelled import Renumbering, labels_and_tops, renumbering
from pipelines.evaluation.reliability import reliability_png
from pipelines.evaluation.report_files import (
    errors_table,
    parquet_bytes,
    per_class_parquet,
    results_csv,
    results_json,
)
from pipelines.evaluation.result import ModelResult, model_result
from pipelines.evaluation.tracking import Record
from pipelines.evaluation.verdicts import Measured, Verdict, judge
from pipelines.messages import public_url
from pipelines.records import Shard, short_digest
from pipelines.storage.layout import Folder
from zoo import imagenet
from zoo.cards import Card

_IMAGENET_CLASSES = 1000
_LOOKED = 5000
"""Labelled rows that are compared with their labels."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one dataset: the column of its cells, its result, the files of its report by name."""

    column: Column
    result: ModelResult
    files: Mapping[str, bytes]
    errors: pa.Table
    """The rows that cannot be judged, see `report_files.ERRORS`."""
    repeated_keys: int
    """Rows whose key occurs in an earlier shard too."""
    empty: tuple[str, ...] = ()
    """Names of shards without samples."""
    verdicts: tuple[Verdict, ...] = ()
    doubt: Renumbering | None = None
    """How the labels seem to be numbered, if not as the model's classes."""


def evaluate(
    store: str,
    plan: Plan,
    column: Column,
    evaluation_set: EvaluationSet | None = None,
    weights_steps: Sequence[str] = (),
) -> Evaluation | None:
    """Evaluate the committed cells of `column`; None where none is committed.

    Args:
        store: where the cells are.
        plan: names the dataset.
        column: the column to evaluate.
        evaluation_set: the set that the dataset is a copy of; None where that is not known, and then without verdicts.
        weights_steps: what was done to find the weights in a checkpoint, for the report.

    Raises:
        ValueError: naming the cell, if one is damaged.
    """
    parts = list(load_cells(store, plan.dataset, column))
    if not parts:
        return None
    classes = column.card.num_classes, column.subset
    result = model_result(
        column.card,
        column,
        plan.dataset.name,
        shards=len(plan.dataset.shards),
        committed=len(parts),
        tally=reduce(metrics.merge, (metrics.tally(rows, *classes) for _, rows in parts)),
    )
    passed = sum((Counter(passed_over(rows)) for _, rows in parts), Counter[str]())
    result = replace(result, passed_over=dict(sorted(passed.items())), weights_steps=tuple(weights_steps))
    errors = errors_table(parts, *classes)
    files = {
        "summary.json": results_json([result]),
        "per_class.parquet": per_class_parquet(result, _class_names(column)),
        "errors.parquet": parquet_bytes(errors),
        "reliability.png": reliability_png(result),
    }
    repeated = _repeated_keys(parts)
    empty = tuple(shard.name for shard, rows in parts if not len(rows))
    judged = _verdicts(plan, result, column, evaluation_set, repeated)
    doubt = renumbering(
        *labels_and_tops((rows for _, rows in parts), _LOOKED), column.card.num_classes, numberings_of(evaluation_set)
    )
    return Evaluation(column, result, files, errors, repeated, empty, judged, doubt)


def write(store: str, plan: Plan, evaluations: Sequence[Evaluation]) -> str:
    """Write `results.json`, `results.csv` and a folder for each model below `<store>/reports/<dataset>-<digest8>`.

    Returns:
        The URI of that folder.
    """
    folder = storage.join(store, Folder.REPORTS, f"{plan.dataset.name}-{plan.dataset.digest}")
    results = [evaluation.result for evaluation in evaluations]
    storage.replace(storage.join(folder, "results.json"), results_json(results))
    storage.replace(storage.join(folder, "results.csv"), results_csv(results))
    for evaluation in evaluations:
        for name, content in evaluation.files.items():
            storage.replace(storage.join(folder, evaluation.column.name, name), content)
    return folder


def sweep(plan: Plan, evaluations: Sequence[Evaluation], environment: Mapping[str, str]) -> Record:
    """The MLflow run that is the parent of all models' runs on one dataset, however many commands they took."""
    dataset = plan.dataset
    results = [evaluation.result for evaluation in evaluations]
    return Record(
        name=f"sweep of {dataset.name}",
        identity=short_digest(["sweep", dataset.name, dataset.digest]),
        params=_dataset_params(plan) | dict(environment),
        metrics={},
        artifacts={"results.csv": results_csv(results), "results.json": results_json(results)},
    )


def record(plan: Plan, evaluation: Evaluation, environment: Mapping[str, str], speeds: Mapping[str, float]) -> Record:
    """The MLflow run of `evaluation`.

    Args:
        plan: names the dataset.
        evaluation: the result of one model.
        environment: library versions and the commit of the code.
        speeds: images per second of one actor in the model alone, by column name, for the models that this command ran.
    """
    column, summary = evaluation.column, evaluation.result.summary
    scores = {name: value for name, value in asdict(summary).items() if isinstance(value, int | float)}
    scores |= {"shards": evaluation.result.shards, "shards_committed": evaluation.result.committed}
    if column.name in speeds:
        scores["images_per_second"] = speeds[column.name]
    params = {
        "model": column.card.name,
        "weights_sha256": column.weights,
        "weights_file": column.file.file,
        "weights_are_the_cards": column.is_as_published,
        "card": _public(column.card),
        "preprocessing": asdict(column.card.preprocessing),
        "decoder": column.decoder,
    }
    return Record(
        name=f"{column.card.name} on {plan.dataset.name}",
        identity=runs.evaluation_id(column.name, plan.dataset.name, plan.dataset.digest),
        params=params | asdict(column.settings) | _dataset_params(plan) | dict(environment),
        metrics=scores,
        artifacts=evaluation.files,
    )


def _public(card: Card) -> dict[str, object]:
    """The card's fields without secrets: a URL can hold a password or a signature."""
    fields = asdict(card)
    if weights := fields["weights"]:
        weights["location"] = public_url(weights["location"])
        weights["mirrors"] = tuple(map(public_url, weights["mirrors"]))
    return fields


def _dataset_params(plan: Plan) -> dict[str, object]:
    dataset = plan.dataset
    return {"dataset": dataset.name, "dataset_source": dataset.source, "dataset_digest": dataset.digest}


def _verdicts(
    plan: Plan, result: ModelResult, column: Column, evaluation_set: EvaluationSet | None, repeated_keys: int
) -> tuple[Verdict, ...]:
    measured = Measured(
        summary=result.summary,
        evaluation_set=evaluation_set,
        complete=result.complete and all(shard.limit is None for shard in plan.dataset.shards),
        precision=column.settings.precision,
        decoder=column.decoder,
        as_published=column.is_as_published,
        identity=column.identity,
        repeated_keys=repeated_keys,
    )
    return tuple(judge(column.card, measured))


def _class_names(column: Column) -> Sequence[str] | None:
    return imagenet.class_names() if column.card.num_classes == _IMAGENET_CLASSES else None


def _repeated_keys(parts: Iterable[tuple[Shard, pa.Table]]) -> int:
    """Rows whose key occurs in an earlier shard too; within one shard the reader makes the second an error."""
    in_shards = [set(rows["key"].to_pylist()) for _, rows in parts]
    return sum(map(len, in_shards)) - len(set[object]().union(*in_shards))
