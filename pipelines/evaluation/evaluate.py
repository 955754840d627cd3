"""Committed cells -> a model's result, the files of its report and its MLflow record.

Owns what an evaluation leaves behind and where. Reads committed cells only, never a running job's memory: a resumed
evaluation and an uninterrupted one leave the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce

import pyarrow as pa

from pipelines import storage
from pipelines.cells import runs
from pipelines.cells.cell import load_cells
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.evaluation import metrics
from pipelines.evaluation.reliability import reliability_png
from pipelines.evaluation.report_files import ModelResult, errors_parquet, per_class_parquet, results_csv, results_json
from pipelines.evaluation.tracking import Record
from pipelines.evaluation.verdicts import Measured, Verdict, judge
from pipelines.models import mirror
from pipelines.records import Shard, short_digest
from zoo import imagenet
from zoo.cards import Card

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one dataset: the column its cells stand in, the result, the files of its report by name."""

    column: Column
    result: ModelResult
    files: Mapping[str, bytes]
    repeated_keys: int
    """Rows whose key stands in an earlier shard too."""
    verdicts: tuple[Verdict, ...] = ()


def evaluate(store: str, plan: Plan, column: Column, kind: EvaluationSet | None = None) -> Evaluation | None:
    """Fold the committed cells of `column`; None where none is committed.

    Args:
        store: where the cells are.
        plan: of which dataset.
        column: whose cells.
        kind: the evaluation set that the dataset is a copy of, where somebody has said so.

    Raises:
        ValueError: naming the cell, if one is damaged.
    """
    parts = list(load_cells(store, plan.dataset, column))
    if not parts:
        return None
    classes = column.card.num_classes, column.subset
    result = _result(plan, column, [metrics.tally(rows, *classes) for _, rows in parts])
    files = {
        "summary.json": results_json([result]),
        "per_class.parquet": per_class_parquet(result, _class_names(column)),
        "errors.parquet": errors_parquet(parts, *classes),
        "reliability.png": reliability_png(result),
    }
    repeated = _repeated(parts)
    return Evaluation(column, result, files, repeated, _verdicts(plan, result, column, kind, repeated))


def write(store: str, plan: Plan, evaluations: Sequence[Evaluation]) -> str:
    """Write `results.json`, `results.csv` and a folder a model below `<store>/reports/<dataset>-<digest8>`.

    Returns:
        The URI of that folder.
    """
    folder = storage.join(store, "reports", f"{plan.dataset.name}-{plan.dataset.digest}")
    results = [evaluation.result for evaluation in evaluations]
    storage.replace(storage.join(folder, "results.json"), results_json(results))
    storage.replace(storage.join(folder, "results.csv"), results_csv(results))
    for evaluation in evaluations:
        for name, content in evaluation.files.items():
            storage.replace(storage.join(folder, evaluation.column.name, name), content)
    return folder


def sweep(plan: Plan, evaluations: Sequence[Evaluation], environment: Mapping[str, str]) -> Record:
    """The MLflow run above those of all models on one dataset, however many commands they took."""
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
        plan: what was evaluated.
        evaluation: the model's.
        environment: library versions and the like.
        speeds: images a second of one actor in the model alone, by the column's name, where this command ran it.
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
    """The card as it may be shown: a URL can hold a password or a signature."""
    fields = asdict(card)
    if weights := fields["weights"]:
        weights["location"] = mirror.public(weights["location"])
        weights["mirrors"] = tuple(map(mirror.public, weights["mirrors"]))
    return fields


def _dataset_params(plan: Plan) -> dict[str, object]:
    dataset = plan.dataset
    return {"dataset": dataset.name, "dataset_source": dataset.source, "dataset_digest": dataset.digest}


def _verdicts(
    plan: Plan, result: ModelResult, column: Column, kind: EvaluationSet | None, repeated: int
) -> tuple[Verdict, ...]:
    measured = Measured(
        summary=result.summary,
        definition=kind,
        complete=result.complete and all(shard.limit is None for shard in plan.dataset.shards),
        precision=column.settings.precision,
        decoder=column.decoder,
        as_published=column.is_as_published,
        plan=column.identity,
        repeated_keys=repeated,
    )
    return tuple(judge(column.card, measured))


def _result(plan: Plan, column: Column, tallies: Sequence[metrics.Tally]) -> ModelResult:
    preprocessing = column.card.preprocessing
    return ModelResult(
        model=column.card.name,
        dataset=plan.dataset.name,
        param_count=column.card.params,
        img_size=preprocessing.size,
        crop_pct=preprocessing.crop_pct,
        interpolation=preprocessing.interpolation,
        weights=column.weights,
        settings=column.settings,
        decoder=column.decoder,
        plan=short_digest(column.identity),
        shards=len(plan.dataset.shards),
        committed=len(tallies),
        tally=reduce(metrics.merge, tallies),
    )


def _class_names(column: Column) -> Sequence[str] | None:
    return imagenet.class_names() if column.card.num_classes == _IMAGENET_CLASSES else None


def _repeated(parts: Iterable[tuple[Shard, pa.Table]]) -> int:
    """Rows whose key an earlier shard has; within a shard, the reader has made the second an error already."""
    in_shards = [set(rows["key"].to_pylist()) for _, rows in parts]
    return sum(map(len, in_shards)) - len(set().union(*in_shards))
