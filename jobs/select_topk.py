"""Selects the training set of a student: of each class the K images that a teacher scored highest, exactly.

    python -m jobs.select_topk --models resnest50d --data 's3://bucket/yfcc/{0000..9999}.tar' --store s3://bucket/out \
        --k 16000 --output s3://bucket/selections/resnest50d-16k

Reads the cells that `jobs.pseudo_label` with the same options has committed. The result does not depend on the order,
the number of workers or restarts: the higher score first, of equal scores the lower hash (SplitMix64) of the sample's
place. An image may be chosen by several classes. Leaves in OUTPUT selection.parquet (label, rank, score, place),
selection.json, classes.csv and scores.png, and a run in MLflow; `jobs.materialize` makes shards of it. Exit codes: 0
done, 2 bad arguments, 3 a store is away, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from jobs.console import cli, signals
from jobs.console.progress import Listing, Meter, say
from jobs.steps import planning, provenance, teachers
from pipelines import storage
from pipelines.cells.plan import Plan
from pipelines.data.dataset import find_dataset
from pipelines.records import Dataset
from pipelines.selection.candidates import RankBy, Rule
from pipelines.selection.files import (
    ABOUT_FILE,
    POOL_FILE,
    TABLE_FILE,
    Selection,
    by_rank,
    read_selection,
    write_selection,
)
from pipelines.selection.summary import source_of, summarise, summarise_classes, summary_csv, summary_lines
from zoo import imagenet

if TYPE_CHECKING:
    from pipelines.evaluation.tracking import Record

_PARTS = "parts"
_REPORT = ("classes.csv", "scores.png")
_NOTHING = ".probe"
"""A name in the output folder that nothing has."""


@dataclass(frozen=True, kw_only=True)
class SelectTopkConfig(teachers.TeacherConfig):
    """Select of each class the K images with the highest scores, from what `jobs.pseudo_label` has committed.

    Give the options of pseudo_label, by which its cells are found. The same command again continues. Exit codes: 0
    done, 2 bad arguments, 3 a store is away, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """

    output: str
    """Folder or s3:// URI for the selection; one folder a selection."""
    k: int = 16000
    """Images a class; where there are fewer, what there is."""
    score: RankBy = "prob"
    """What ranks the images of a class: the probability, as in Yalniz et al. 2019, or the logit. An ensemble's logits
    are the logs of its probabilities."""
    floor: float | None = None
    """Choose nothing of a lower score."""
    dedup: bool = False
    """Of images with the same bytes choose one: a class has it once."""
    exclude_shards: tuple[str, ...] = ()
    """Patterns (`val-*`) of names of shards from which nothing is chosen: paths below --data, without suffix."""
    exclude_keys: str | None = None
    """A text file (path or URI) of keys that are not chosen, one a line."""
    exclude_images: tuple[str, ...] = ()
    """Shards (as --data) whose images, by their bytes, are not chosen: the validation set, so that nothing leaks."""
    incomplete: bool = False
    """Select though cells are missing: from the shards that have one."""
    dry_run: bool = False
    """Say what would be selected from, and write nothing."""
    tracking_uri: str | None = None
    """MLflow server. Where not given, the file mlflow.db in the store, in the working folder where the store is s3://;
    `none` for no tracking."""


def run(config: SelectTopkConfig) -> int:
    """Select and report.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: if cells are missing or damaged, or options cannot be used.
        FileNotFoundError: if the pool is not there.
    """
    teachers.check(config)
    keys = frozenset(_lines(config.exclude_keys)) if config.exclude_keys else frozenset()
    rule = Rule(
        k=config.k, score=config.score, floor=config.floor, dedup=config.dedup, keys=keys, shards=config.exclude_shards
    )
    plan = teachers.plan(config)
    planning.say_plan(plan, config)
    _require_cells(plan, config)
    for pattern in rule.shards:
        if all(replace(rule, shards=(pattern,)).takes(shard) for shard in plan.dataset.shards):
            first = plan.dataset.shards[0].name
            raise ValueError(f"--exclude-shards {pattern}: fits no shard's name; the first is called {first!r}")
    if config.dry_run:
        return cli.DONE
    _require_own(config.output)
    storage.require_writable(storage.join(config.output, _NOTHING))
    config = replace(config, store=storage.absolute(config.store), output=storage.absolute(config.output))
    found = _select(config, plan, rule)
    _report(config, found)
    return cli.DONE


def _require_own(output: str) -> None:
    """Refuse a folder with something else in it: a pool beside which `selection.parquet` would be one more shard."""
    own = {TABLE_FILE, POOL_FILE, ABOUT_FILE, *_REPORT}
    for entry in storage.list_objects(output):
        name = entry.uri.removeprefix(storage.join(output, ""))
        if name not in own and not name.startswith(f"{_PARTS}/"):
            raise ValueError(f"--output {output}: {name} is there, which is no part of a selection; take a new folder")


def _lines(location: str) -> list[str]:
    try:
        return [line for line in storage.read(location).decode("utf-8-sig").splitlines() if line]
    except UnicodeDecodeError as error:
        raise ValueError(f"--exclude-keys {location}: is no text: {error}") from None


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
    """The selection in OUTPUT, made unless it is there."""
    # Ray takes seconds to load, and --help does not need it.
    from pipelines.cluster import connection
    from pipelines.selection import distributed

    connection.connect()
    signals.heed()
    if config.exclude_images:
        excluded = find_dataset(config.exclude_images, watch=Listing()).shards
        with Meter("excluded shards", len(excluded)) as meter:
            images = distributed.digests(excluded, meter.update)
        rule = replace(rule, images=images)
    identity = distributed.selection_id(config.store, plan, rule)
    there = read_selection(config.output)
    if there and there.identity != identity:
        raise ValueError(
            f"--output {config.output}: another selection is there, by another rule or from other cells; take a new "
            "folder"
        )
    parts = storage.join(config.output, _PARTS, identity)
    if there:
        say(f"selected before: {config.output}")
    else:
        with Meter("groups of cells", len(distributed.groups(plan, rule))) as meter:
            chosen = distributed.select(config.store, plan, rule, parts, meter.update)
        about = _about(config, plan, rule, identity) | {"images": asdict(chosen.seen)}
        write_selection(config.output, _counted(plan.dataset, chosen.rows), by_rank(chosen.best), about)
    storage.remove([entry.uri for entry in storage.list_objects(parts)])
    written = read_selection(config.output)
    assert written
    return written


def _counted(pool: Dataset, rows: Mapping[int, int]) -> Dataset:
    """The pool with the rows of its shards, which their cells know where no manifest does."""
    shards = [replace(shard, rows=rows.get(place, shard.rows)) for place, shard in enumerate(pool.shards)]
    return replace(pool, shards=tuple(shards))


def _about(config: SelectTopkConfig, plan: Plan, rule: Rule, identity: str) -> dict[str, Any]:
    (column,) = plan.columns
    return {
        "identity": identity,
        "store": storage.absolute(config.store),
        "teacher": {
            "model": column.model,
            "column": column.name,
            "classes": column.card.num_classes,
            "members": [{"model": member.card.name, "weights": member.weights} for member in column.members],
            "plan": column.identity,
        },
        "rule": {
            "k": rule.k,
            "score": rule.score,
            "floor": rule.floor,
            "dedup": rule.dedup,
            "excluded_shards": list(rule.shards),
            "excluded_keys": len(rule.keys),
            "excluded_images": len(rule.images),
            "digest": rule.digest,
        },
        "cells": {
            "needed": plan.needed,
            "missing": plan.pending,
            "excluded": sum(not rule.takes(shard) for shard in plan.dataset.shards),
        },
    }


def _report(config: SelectTopkConfig, found: Selection) -> None:
    from pipelines.selection import pictures

    classes = summarise_classes(found.chosen, found.about["teacher"]["classes"], config.k)
    numbers = summarise(found.chosen, classes)
    names = imagenet.class_names()
    title = f"{found.about['teacher']['model']} on {found.pool.name}, K = {config.k:,}"
    files = {
        "classes.csv": summary_csv(classes, names if len(names) == len(classes) else None),
        "scores.png": pictures.scores_png(found.chosen, classes, config.k, title),
    }
    for name, content in files.items():
        storage.replace(storage.join(config.output, name), content)
    cli.stdout.print(source_of(found.about["images"], found.about["cells"]))
    for line in summary_lines(numbers, config.k):
        cli.stdout.print(line)
    say(f"selection {storage.absolute(config.output)}")
    if config.tracking_uri != "none":
        provenance.log(config.tracking_uri, config.store, [_record(found, numbers, files)], "")


def _record(found: Selection, numbers: Mapping[str, float], files: Mapping[str, bytes]) -> "Record":
    provenance.be_brief()
    from pipelines.evaluation.tracking import Record

    teacher, rule = found.about["teacher"], found.about["rule"]
    return Record(
        name=f"selection of {teacher['model']} from {found.pool.name}",
        identity=found.identity,
        params={
            "teacher": teacher["column"],
            "pool": found.pool.name,
            "pool_digest": found.about["pool"]["digest"],
            **rule,
            **provenance.environment(),
        },
        metrics={name: float(value) for name, value in numbers.items()},
        artifacts=files,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(SelectTopkConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
