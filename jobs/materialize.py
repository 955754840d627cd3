"""Makes shards of a selection: the chosen images unchanged, each with its pseudo-label, to train a student on.

    python -m jobs.materialize --selection s3://bucket/selections/resnest50d-16k --output s3://bucket/students/16k

Reads only the shards that hold chosen samples. An image that several classes chose occurs once for each of them. Every
shard holds a mix of classes, the same in every run; after an interruption the same command completes it. A sample's key
is `LABEL-RANK`; its score, rank and source are beside it (`.json` members, Parquet columns). Leaves contact sheets of
some classes in OUTPUT/sheets. Exit codes: 0 done, 2 bad arguments, 3 a store is unavailable, 130 and 143 stopped by
Ctrl-C and SIGTERM.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from jobs.console import cli
from jobs.console.progress import Meter, count, say
from jobs.steps import cluster, options, provenance
from pipelines import storage
from pipelines.packing.pack import Target
from pipelines.selection.files import Selection, read_selection
from pipelines.selection.groups import Group, expected_bytes, group_shards
from zoo import imagenet

_SHEETS = 10
"""Classes with a contact sheet, if the user names none."""


@dataclass(frozen=True, kw_only=True)
class MaterializeConfig(cli.Job):
    """Make shards of the images that `jobs.select_topk` selected.

    The same command again continues where it stopped. Exit codes: 0 done, 2 bad arguments, 3 a store is
    unavailable, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """

    selection: str
    """The --output of `jobs.select_topk`: a folder or s3:// URI."""
    output: str
    """Folder or s3:// URI for the shards and their manifest."""
    sign_request: bool = True
    """`--no-sign-request` reads the pool without credentials, as public buckets allow; AWS_NO_SIGN_REQUEST=1 does too.
    A selection that was made so needs neither."""
    samples_per_shard: int = 1000
    """Approximate number of samples per shard; samples are spread evenly over the shards."""
    format: Literal["tar", "parquet"] = "tar"
    """WebDataset tar, or Parquet with the columns key, image, label, rank, score, source."""
    sheets: tuple[int, ...] = ()
    """Classes (numbers) that get a contact sheet; by default ten, spread evenly over the classes with images."""
    dry_run: bool = False
    """Print what would be read and written, then stop."""
    tracking_uri: str | None = None
    """MLflow server; the selection's run gets the contact sheets. `none` for no tracking.
    The default is that of `jobs.select_topk`."""


def run(config: MaterializeConfig) -> int:
    """Materialise the selection, or with `dry_run` print what that would do.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: if there is no selection, its pool has changed, or the output folder holds something else.
    """
    target = Target(output=config.output, format=config.format, samples_per_shard=config.samples_per_shard)
    found = read_selection(config.selection)
    if found is None:
        raise ValueError(f"--selection {config.selection}: no selection is there; `jobs.select_topk` makes one")
    if not len(found.chosen):
        raise ValueError(f"--selection {config.selection}: the selection is empty")
    if not options.signs(config.sign_request):
        shards = tuple(replace(shard, uri=storage.anonymous(shard.uri)) for shard in found.pool.shards)
        found = replace(found, pool=replace(found.pool, shards=shards))
    groups = group_shards(found.pool, found.chosen, config.samples_per_shard)
    classes = _classes(found, config.sheets)
    cli.stdout.print(_summary_line(found, groups, target))
    if config.dry_run:
        return cli.DONE
    target = replace(target, output=storage.absolute(target.output))
    options.require_writable_folder(target.output)
    _materialize(config, found, groups, target, classes)
    say(f"shards   {storage.absolute(config.output)}")
    return cli.DONE


def _classes(found: Selection, wanted: Sequence[int]) -> dict[int, int]:
    """The number of images of each class that gets a contact sheet."""
    labels, counts = np.unique(found.chosen["label"].to_numpy(), return_counts=True)
    images = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    if lacking := [label for label in wanted if label not in images]:
        raise ValueError(f"--sheets {lacking[0]}: nothing was chosen for that class; {len(images)} classes have images")
    few = np.linspace(0, len(labels) - 1, min(_SHEETS, len(labels))).astype(int)
    return {label: images[label] for label in wanted or labels[few].tolist()}


def _summary_line(found: Selection, groups: Sequence[Group], target: Target) -> str:
    read = [found.pool.shards[at] for group in groups for at in group.shards]
    counts = np.bincount(found.chosen["shard"].to_numpy(), minlength=len(found.pool.shards))
    size = sum(expected_bytes(found.pool, at, counts[at]) for group in groups for at in group.shards)
    known = all(shard.rows for shard in read)
    return (
        f"{count(len(found.chosen), 'sample')} in {count(sum(group.outputs for group in groups), 'shard')} "
        f"({target.format}), {'about' if known else 'at most'} {size / 1e6:,.1f} MB, from "
        f"{len(read):,} of {count(len(found.pool.shards), 'shard')} of {found.pool.name} "
        f"({sum(shard.size for shard in read) / 1e6:,.1f} MB)"
    )


def _materialize(
    config: MaterializeConfig, found: Selection, groups: Sequence[Group], target: Target, classes: Mapping[int, int]
) -> None:
    # Ray takes seconds to load, and --help does not need it.
    from pipelines.selection import materialize, pictures

    shown = _rows_shown(found, {label: pictures.shown_ranks(number) for label, number in classes.items()})
    cluster.connect()
    with Meter("shards", sum(group.outputs for group in groups), expected=len(found.chosen)) as meter:
        thumbnails = materialize.materialize(found, groups, target, shown, meter.update)
    names, labels = imagenet.class_names(), thumbnails["label"].to_numpy()
    drawn = {}
    for label, number in classes.items():
        title = f"{label} {names[label]}" if found.facts.teacher.classes == len(names) else str(label)
        drawn[f"sheet-{label:05d}.png"] = pictures.sheet_png(thumbnails.filter(labels == label), number, title)
    for name, content in drawn.items():
        storage.replace(storage.join(config.output, "sheets", name), content)
    say(f"sheets   {storage.absolute(storage.join(config.output, 'sheets'))}")
    if config.tracking_uri != "none":
        _track(config, found, drawn)


def _rows_shown(found: Selection, ranks: Mapping[int, Sequence[int]]) -> np.ndarray:
    """A mask of the rows of the selection that get a thumbnail: those with one of the `ranks` of their class."""
    label, rank = found.chosen["label"].to_numpy(), found.chosen["rank"].to_numpy()
    shown = np.zeros(len(label), bool)
    for shown_label, shown_ranks in ranks.items():
        shown |= (label == shown_label) & np.isin(rank, shown_ranks)
    return shown


def _track(config: MaterializeConfig, found: Selection, drawn: Mapping[str, bytes]) -> None:
    provenance.limit_mlflow_retries()
    from pipelines.evaluation.tracking import Record

    name = f"selection of {found.facts.teacher.model} from {found.pool.name}"
    params = {"materialized": storage.absolute(config.output)}
    record = Record(name=name, identity=found.identity, params=params, metrics={}, artifacts=drawn)
    provenance.log(config.tracking_uri, found.facts.store, [record], "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(MaterializeConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
