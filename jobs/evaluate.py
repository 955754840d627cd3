"""Evaluates models on a labelled dataset: plan the cells, fill those that are missing, report from what is committed.

    python -m jobs.evaluate --models efficientnet_lite0 --data 's3://bucket/val/{00000..00049}.tar' --store s3://bucket/out
    ray job submit --working-dir . -- python -m jobs.evaluate --models all --data s3://bucket/val --store s3://bucket/out

The same command again continues where the last one stopped, and when nothing is missing only reports. Leaves cells
under STORE/cells, the report under STORE/reports/DATASET-DIGEST and a run per model in MLflow. Exit codes: 0 done,
2 bad arguments, 3 finished with cells missing or models without weights, each with its reason.
"""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import zoo
from jobs import cli, provenance
from jobs.progress import Meter, count, say
from pipelines import cells, mirror, read, shards, storage
from pipelines.cells import Column, Plan
from pipelines.metrics import LABEL_RANGE
from pipelines.records import Dataset, Decoder, Precision
from pipelines.report import error_lines, result_table, results_json

if TYPE_CHECKING:
    from pipelines.evaluation import Evaluation
    from pipelines.flow import Outcome

UNFINISHED = 3
_PROBED = 8
"""Shards tried, one after the other, until one can be read, before Ray is started for nothing."""
_PROBED_SAMPLES = 32
_FETCHES = 8
"""Files of weights that are fetched at once, most of them waiting for a server."""
_NOTHING = ".probe"
"""A name in the store that nothing has."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(cli.Job):
    """Evaluate models on labelled images: top-1 and top-5, calibration and per-class accuracy, from committed cells."""

    models: str
    """Names or patterns, comma-separated: `efficientnet_lite0`, `'efficientnet*'`, `all` (see `python -m zoo`)."""
    data: tuple[str, ...]
    """Shards (.tar, .parquet): folders, globs, brace patterns `{00000..00049}.tar`, or .txt files listing such."""
    store: str = "output"
    """Folder or s3:// URI for cells, reports and mirrored weights."""
    checkpoint: str | None = None
    """Weights of the one model of --models, a path or URI, in place of those that its card names."""
    cards: tuple[str, ...] = ()
    """Model-index files (path or URI) with cards of your own models; the README shows one."""
    precision: Precision = "fp32"
    """Arithmetic of the models; part of a cell's identity."""
    decoder: Decoder = "exact"
    """How images are decoded; `exact` is Pillow, as published numbers were measured. Part of a cell's identity."""
    batch_size: int = 32
    """Images that a model sees at once. Part of a cell's identity, since it moves probabilities in the 7th digit."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: GPUs where the cluster has any."""
    limit: int | None = None
    """Evaluate only the first N images."""
    dry_run: bool = False
    """Print the plan and stop."""
    retrack: bool = False
    """Compute nothing: report what is committed and log it to MLflow, for when MLflow was away."""
    tracking_uri: str | None = None
    """MLflow server; an SQLite file in the store where not given, `none` for no tracking."""
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
    chosen = zoo.select(config.models, cli.cards(config.cards))
    if config.checkpoint and len(chosen) > 1:
        names = ", ".join(card.name for card in chosen)
        raise ValueError(f"--checkpoint {config.checkpoint}: goes with one model, not with {len(chosen)} ({names})")
    columns, unusable = _columns(chosen, config)
    dataset = shards.find(config.data)
    if config.limit is not None:
        dataset = read.limited(dataset, config.limit)
    plan = cells.plan(config.store, dataset, columns)
    _print_plan(plan, config)
    if config.dry_run:
        return _say_unusable(unusable)
    outcome = None
    if config.retrack and plan.pending == plan.needed:
        raise ValueError(f"--retrack: nothing is committed in {config.store} yet; leave it out to evaluate")
    if plan.pending and not config.retrack:
        unusable |= _fetch_weights(plan, others=bool(unusable))
        outcome = _fill_usable(plan, unusable, config)
        unusable |= _not_loaded(outcome)
        plan = cells.plan(config.store, dataset, columns)
    evaluations = _report(plan, config)
    code = max(_say_failures(plan, outcome), _say_unusable(unusable))
    _refuse_labels(evaluations)
    return code


def _check_options(config: EvaluateConfig) -> None:
    if config.batch_size < 1:
        raise ValueError(f"--batch-size {config.batch_size}: expected a positive number")
    if config.device not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"--device {config.device}: choose from auto, cpu, cuda")
    for target in (config.results_file, storage.join(config.store, _NOTHING)):
        if target:
            storage.require_writable(target)


def _columns(chosen: Sequence[zoo.Card], config: EvaluateConfig) -> tuple[list[Column], dict[str, str]]:
    """A column for each model whose weights are known, and why the others' are not, by name; one at least must be."""
    columns, unusable = [], {}
    settings = {"precision": config.precision, "decoder": config.decoder, "batch_size": config.batch_size}
    for card in chosen:
        try:
            file = mirror.find(config.store, card, config.checkpoint)
            columns.append(Column(card=card, file=file, **settings))
        except (ValueError, FileNotFoundError) as error:
            if len(chosen) == 1:
                raise
            unusable[card.name] = str(error).removeprefix(f"{card.name}: ")
    if not columns:
        raise ValueError(f"no model has weights; {'; '.join(f'{name}: {reason}' for name, reason in unusable.items())}")
    return columns, unusable


def _print_plan(plan: Plan, config: EvaluateConfig) -> None:
    dataset = plan.dataset
    rows = [shard.limit or shard.rows for shard in dataset.shards]
    images = count(sum(filter(None, rows)), "image") if all(rows) else "images not counted yet"
    size = sum(shard.size for shard in dataset.shards) / 1e6
    say(f"dataset  {dataset.name}-{dataset.digest}: {count(len(rows), 'shard')}, {images}, {size:,.1f} MB")
    for column, missing in zip(plan.columns, plan.missing, strict=True):
        say(f"model    {column.name}: {count(len(rows) - len(missing), 'cell')} committed, {len(missing)} to do")
    settings = f"{config.precision}, {config.decoder} decoder, batch {config.batch_size}"
    say(f"store    {storage.absolute(config.store)} ({settings})")


def _fetch_weights(plan: Plan, others: bool) -> dict[str, str]:
    """Fetch what is neither here nor in the store; why a model's weights cannot be had, by name.

    Raises:
        FileNotFoundError: if that is so of every model, of which `others` says whether there are more.
    """
    lacking = [column for column, missing in zip(plan.columns, plan.missing, strict=True) if missing]
    far = [column for column in lacking if not mirror.is_near(column.file)]
    if far:
        say(f"fetching {count(len(far), 'file')} of weights that are neither on this machine nor in the store")
    with ThreadPoolExecutor(_FETCHES) as pool:
        reasons = dict(zip((column.card.name for column in far), pool.map(_fetch, far), strict=True))
    absent = {name: reason for name, reason in reasons.items() if reason}
    if len(absent) == len(lacking) and not others:
        raise FileNotFoundError("; ".join(f"{name}: {reason}" for name, reason in absent.items()))
    return absent


def _fetch(column: Column) -> str | None:
    try:
        mirror.obtain(column.file)
    except FileNotFoundError as error:
        return str(error)
    say(f"fetched  {column.file.file}")
    return None


def _fill_usable(plan: Plan, unusable: Mapping[str, str], config: EvaluateConfig) -> "Outcome | None":
    """Fill the cells of the models whose weights are there; None where there are no such."""
    usable = [column for column in plan.columns if column.card.name not in unusable]
    part = cells.plan(config.store, plan.dataset, usable)
    if not part.pending:
        return None
    _check(part)
    return _fill(part, config)


def _not_loaded(outcome: "Outcome | None") -> dict[str, str]:
    if outcome is None:
        return {}
    return {outcome.plan.columns[column].card.name: reason for column, reason in outcome.unusable.items()}


def _check(plan: Plan) -> None:
    """What would fail for certain, said before Ray starts."""
    classes = min(column.card.num_classes for column in plan.columns)
    _check_labels(plan.dataset.labels, classes, plan.dataset.source)
    if plan.pending == plan.needed:  # otherwise some shard has been read before
        labels, where = _probe(plan.dataset)
        _check_labels(labels, classes, where)


def _probe(dataset: Dataset) -> tuple[tuple[int, int] | None, str]:
    """The range of the first labels of a shard that can be read, and that shard's URI; a few are tried, far apart."""
    reasons = []
    for shard in dataset.shards[:: -(-len(dataset.shards) // _PROBED)]:
        try:
            samples = list(islice(read.samples(shard), _PROBED_SAMPLES))
        except read.ShardError as error:
            reasons.append(f"{shard.uri}: {error}")
            continue
        labels = [sample.label for sample in samples if sample.label is not None]
        return (min(labels), max(labels)) if labels else None, shard.uri
    if len(reasons) == len(dataset.shards):
        raise ValueError(f"no shard can be read ({len(reasons)} tried); {reasons[0]}")
    return None, dataset.source


def _check_labels(found: tuple[int, int] | None, classes: int, where: str) -> None:
    if found and (found[0] < 0 or found[1] >= classes):
        hint = "; do they count from 1?" if found[1] == classes else ""
        raise ValueError(f"{where}: labels from {found[0]} to {found[1]}, expected 0 to {classes - 1}{hint}")


def _fill(plan: Plan, config: EvaluateConfig) -> "Outcome":
    # Ray and torch take seconds to load; --help, --dry-run and a finished evaluation need neither.
    from pipelines import cluster, flow

    with Meter("cells", plan.pending, expected=_images_to_do(plan)) as meter:
        cluster.connect()
        outcome = flow.fill(
            config.store, plan, config.device, lambda progress: meter.update(progress.cells, progress.images)
        )
    say(meter.summary())
    return outcome


def _images_to_do(plan: Plan) -> int | None:
    """How many images the walk will decode, where manifests say it."""
    pending = {position for missing in plan.missing for position in missing}
    rows = [plan.dataset.shards[i].limit or plan.dataset.shards[i].rows for i in pending]
    return None if None in rows else sum(filter(None, rows))


def _report(plan: Plan, config: EvaluateConfig) -> "list[Evaluation]":
    from pipelines import evaluation  # matplotlib and mlflow take a second

    found = [evaluation.evaluate(config.store, plan, column) for column in plan.columns]
    done = [entry for entry in found if entry]
    results = [entry.result for entry in done]
    if config.results_file:
        storage.replace(config.results_file, results_json(results))
    if not done:
        say("report   nothing is committed, so there is nothing to report")
        return done
    folder = evaluation.write(config.store, plan, done)
    if scored := [entry for entry in done if _has_labels(entry)]:
        cli.stdout.print(result_table([entry.result for entry in scored]))
    for entry in done:
        _say_what_is_not_scored(entry)
    say(f"report   {folder}")
    if config.tracking_uri != "none":
        provenance.track(config.tracking_uri, config.store, plan, done)
    return done


def _refuse_labels(evaluations: "Sequence[Evaluation]") -> None:
    """Labels that are no class are the data's fault and not a picture's: reported as errors, and then loudly."""
    for entry in evaluations:
        if wrong := entry.result.summary.error_reasons.get(LABEL_RANGE):
            last = entry.column.card.num_classes - 1
            raise ValueError(f"{count(wrong, 'label')} outside 0 to {last}, counted as errors; see errors.parquet")


def _has_labels(entry: "Evaluation") -> bool:
    summary = entry.result.summary
    return summary.labelled > 0 or LABEL_RANGE in summary.error_reasons


def _say_what_is_not_scored(entry: "Evaluation") -> None:
    if not _has_labels(entry):
        say("note     no sample has a label, so there is nothing to score; the predictions are in the cells")
        return
    for line in error_lines(entry.result):
        cli.stdout.print(line, markup=False)
    if entry.repeated_keys:
        say(f"warning: {count(entry.repeated_keys, 'key')} stand in more than one shard; each is counted")


def _say_failures(plan: Plan, outcome: "Outcome | None") -> int:
    failures = outcome.failures if outcome else {}
    for position, reason in sorted(failures.items()):
        say(f"failed   {plan.dataset.shards[position].uri}: {reason}")
    if outcome and outcome.broken:
        say(f"stopped  the walk broke off: {outcome.broken}")
    if plan.pending:
        say(f"{plan.pending} of {plan.needed} cells are missing; the same command tries them again")
    return UNFINISHED if plan.pending or failures else cli.DONE


def _say_unusable(unusable: Mapping[str, str]) -> int:
    for name, reason in unusable.items():
        say(f"failed   {name}: {' '.join(reason.split())}")
    return UNFINISHED if unusable else cli.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(EvaluateConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
