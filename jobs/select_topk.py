r"""Selects the training set of a student: for each class the K images that a teacher scored highest, exactly.

    python -m jobs.select_topk --models resnest50d --data 's3://bucket/yfcc/{0000..9999}.tar' --store s3://bucket/out \
        --k 16000 --output s3://bucket/selections/resnest50d-16k

Reads the cells that `jobs.pseudo_label` with the same options has committed. The result does not depend on the order,
the number of workers or restarts: higher scores come first, and ties are broken by a hash (SplitMix64) of the sample's
position in the pool. An image can be chosen for several classes. Leaves selection.parquet (label, rank, score and
position), selection.json, classes.csv and scores.png in OUTPUT, and a run in MLflow; `jobs.materialize` makes shards of
it.
Exit codes: 0 done, 2 bad arguments, 3 a store is unavailable, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobs.console import cli
from jobs.console.progress import Listing, Meter, say
from jobs.steps import cluster, options, planning, provenance, teachers
from jobs.steps.plan_summary import say_plan
from jobs.steps.reading_options import reading
from pipelines import storage
from pipelines.cells.plan import Plan
from pipelines.data.dataset import find_dataset
from pipelines.records import Dataset
from pipelines.selection.candidates import RankBy, Rule
from pipelines.selection.facts import selection_facts
from pipelines.selection.files import (
    FACTS_FILE,
    POOL_FILE,
    TABLE_FILE,
    Selection,
    by_rank,
    read_selection,
    write_selection,
)
from pipelines.selection.summary import (
    SelectionSummary,
    source_line,
    summarise,
    summarise_classes,
    summary_csv,
    summary_lines,
)
from zoo import imagenet

if TYPE_CHECKING:
    from pipelines.evaluation.tracking import Record

_PARTS = "parts"
_REPORT = ("classes.csv", "scores.png")


@dataclass(frozen=True, kw_only=True)
class SelectTopkConfig(teachers.TeacherConfig):
    """Select for each class the K images with the highest scores, from the cells that `jobs.pseudo_label` committed.

    Give the same options as to pseudo_label: they identify its cells. The same command again continues where it
    stopped. Exit codes: 0 done, 2 bad arguments, 3 a store is unavailable, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """

    output: str
    """Folder or s3:// URI for the selection; each selection needs its own."""
    k: int = 16000
    """K: images per class; a class with fewer candidates gets all of them."""
    score: RankBy = "prob"
    """What ranks the images of a class: the probability, as in Yalniz et al. 2019, or the logit.
    An ensemble's logits are the logarithms of its probabilities."""
    floor: float | None = None
    """Minimum score of a chosen image."""
    dedup: bool = False
    """Choose only one of several images with the same bytes, so that a class has each image once."""
    exclude_shards: tuple[str, ...] = ()
    """Patterns (`val-*`) of shards to leave out, by name: the path below --data without suffix."""
    exclude_keys: str | None = None
    """Text file (path or URI) with the keys of samples to leave out, one per line."""
    exclude_images: tuple[str, ...] = ()
    """Shards (as for --data) whose images, compared by their bytes, are left out.
    Give the validation set, so that none of its images leaks into training."""
    incomplete: bool = False
    """Select even if cells are missing; shards without a cell are left out."""
    dry_run: bool = False
    """Print which cells the selection would use, then stop."""
    tracking_uri: str | None = None
    """MLflow server; `none` for no tracking.
    The default is the file mlflow.db in the store, or in the working directory if the store is s3://."""


def run(config: SelectTopkConfig) -> int:
    """Select and report.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: if cells are missing or damaged, or options cannot be used.
        FileNotFoundError: if the pool does not exist.
    """
    teachers.check(config)
    keys = frozenset(_read_keys(config.exclude_keys)) if config.exclude_keys else frozenset()
    rule = Rule(
        k=config.k, score=config.score, floor=config.floor, dedup=config.dedup, keys=keys, shards=config.exclude_shards
    )
    planned = teachers.plan_run(config)
    plan = planned.plan
    say_plan(planned, planning.run_options(config))
    _require_cells(plan, config)
    for pattern in rule.shards:
        if all(replace(rule, shards=(pattern,)).takes(shard) for shard in plan.dataset.shards):
            first = plan.dataset.shards[0].name
            raise ValueError(f"--exclude-shards {pattern}: matches no shard's name; the first shard is {first!r}")
    if config.dry_run:
        return cli.DONE
    _require_no_foreign_file(config.output)
    options.require_writable_folder(config.output)
    config = replace(config, store=storage.absolute(config.store), output=storage.absolute(config.output))
    found = _select(config, plan, rule)
    _report(config, found)
    return cli.DONE


def _require_no_foreign_file(output: str) -> None:
    """Raise if `output` holds other files: in a folder of shards, `selection.parquet` would become one more shard."""
    own = {TABLE_FILE, POOL_FILE, FACTS_FILE, *_REPORT}
    for entry in storage.list_objects(output):
        name = entry.uri.removeprefix(storage.join(output, ""))
        if name not in own and not name.startswith(f"{_PARTS}/"):
            raise ValueError(
                f"--output {output}: {name} is there, which is not part of a selection; choose a new folder"
            )


def _read_keys(location: str) -> list[str]:
    try:
        return [line for line in storage.read(location).decode("utf-8-sig").splitlines() if line]
    except UnicodeDecodeError as error:
        raise ValueError(f"--exclude-keys {location}: not a text file in UTF-8: {error}") from None


def _require_cells(plan: Plan, config: SelectTopkConfig) -> None:
    (column,) = plan.columns
    if plan.pending == plan.needed:
        raise ValueError(
            f"no cell of {column.name} is in {config.store}; `jobs.pseudo_label` with the same options makes them"
        )
    if plan.pending and not config.incomplete:
        raise ValueError(
            f"{plan.pending:,} of {plan.needed:,} cells of {column.name} are missing; `jobs.pseudo_label` with the "
            "same options fills them, --incomplete selects without them"
        )


def _select(config: SelectTopkConfig, plan: Plan, rule: Rule) -> Selection:
    """The selection in OUTPUT, which is made unless it exists."""
    # Ray takes seconds to load, and --help does not need it.
    from pipelines.selection import distributed

    cluster.connect()
    if config.exclude_images:
        excluded = find_dataset(
            config.exclude_images,
            watch=Listing(),
            signed=options.signs(config.sign_request),
            reading=reading(config),
        ).shards
        with Meter("excluded shards", len(excluded)) as meter:
            images = distributed.digests(excluded, meter.update)
        rule = replace(rule, images=images)
    identity = distributed.selection_id(config.store, plan, rule)
    existing = read_selection(config.output)
    if existing and existing.identity != identity:
        raise ValueError(
            f"--output {config.output}: another selection is there, by another rule or from other cells; choose a new "
            "folder"
        )
    parts = storage.join(config.output, _PARTS, identity)
    if existing:
        say(f"selected before: {config.output}")
    else:
        with Meter("groups of cells", len(distributed.groups(plan, rule))) as meter:
            chosen = distributed.select(config.store, plan, rule, parts, meter.update)
        facts = selection_facts(config.store, plan, rule, identity, chosen.seen)
        pool = _with_rows(plan.dataset, chosen.rows)
        write_selection(config.output, Selection(pool=pool, chosen=by_rank(chosen.best), facts=facts))
    storage.remove([entry.uri for entry in storage.list_objects(parts)])
    written = read_selection(config.output)
    assert written
    return written


def _with_rows(pool: Dataset, rows: Mapping[int, int]) -> Dataset:
    """The pool with the row counts of its shards, which come from their cells if there is no manifest."""
    shards = [replace(shard, rows=rows.get(position, shard.rows)) for position, shard in enumerate(pool.shards)]
    return replace(pool, shards=tuple(shards))


def _report(config: SelectTopkConfig, found: Selection) -> None:
    from pipelines.selection import pictures

    classes = summarise_classes(found.chosen, found.facts.teacher.classes, config.k)
    summary = summarise(found.chosen, classes)
    names = imagenet.class_names()
    title = f"{found.facts.teacher.model} on {found.pool.name}, K = {config.k:,}"
    files = {
        "classes.csv": summary_csv(classes, names if len(names) == len(classes) else None),
        "scores.png": pictures.scores_png(found.chosen, classes, config.k, title),
    }
    for name, content in files.items():
        storage.replace(storage.join(config.output, name), content)
    cli.stdout.print(source_line(found.facts.images, found.facts.cells))
    for line in summary_lines(summary, config.k):
        cli.stdout.print(line)
    say(f"selection {storage.absolute(config.output)}")
    if config.tracking_uri != "none":
        provenance.log(config.tracking_uri, config.store, [_record(found, summary, files)], "")


def _record(found: Selection, summary: SelectionSummary, files: Mapping[str, bytes]) -> "Record":
    provenance.limit_mlflow_retries()
    from pipelines.evaluation.tracking import Record

    teacher = found.facts.teacher
    return Record(
        name=f"selection of {teacher.model} from {found.pool.name}",
        identity=found.identity,
        params={
            "teacher": teacher.column,
            "pool": found.pool.name,
            "pool_digest": found.pool.digest,
            **found.facts.rule.to_json(),
            **provenance.environment(),
        },
        metrics={name: float(value) for name, value in summary.numbers().items()},
        artifacts=files,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(SelectTopkConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
