"""Packs images into shards that evaluation reads: a folder, an archive, or objects that a list names.

    python -m jobs.pack_shards --images photos --labels labels.csv --output s3://bucket/photos --samples-per-shard 1000
    python -m jobs.pack_shards --images classes --classes classes.txt --output shards/classes
    python -m jobs.pack_shards --images imagenetv2-matched-frequency.tar.gz --output v2
    python -m jobs.pack_shards --images ILSVRC2012_img_val.tar --devkit ILSVRC2012_devkit_t12.tar.gz --output val
    python -m jobs.pack_shards --keys s3://bucket/yfcc100m.parquet --output s3://bucket/yfcc --samples-per-shard 2000

One line says where labels come from; `--dry-run` prints it and writes nothing. The images' bytes are packed unchanged,
and the same images give the same shards; after an interruption the same command completes them. Exit codes: 0 done, 2
bad arguments or bad data, 3 a store is unavailable, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import csv
import io
import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from jobs.console import cli
from jobs.console.progress import Meter, count, say
from jobs.steps import cluster
from jobs.steps.options import signs
from pipelines import storage
from pipelines.data import manifest
from pipelines.data.manifest import Manifest, PackedShard
from pipelines.packing import archives, folders, labelling, uri_list
from pipelines.packing.classes import NONE, SORTED, Classes, read_classes
from pipelines.packing.images import Image
from pipelines.packing.labelling import Labelling
from pipelines.packing.pack import Target, earlier_packing, label_range, pack, require_same


@dataclass(frozen=True, kw_only=True)
class PackShardsConfig(cli.Job):
    """Pack images into shards: a folder, an archive, or objects that a list names.

    The same command again continues where it stopped. Exit codes: 0 done, 2 bad arguments or bad data, 3 a store is
    unavailable, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """

    images: str | None = None
    """Folder, tar (also .tar.gz) or zip of images; ILSVRC2012_img_val.tar, ILSVRC2012_img_train.tar.
    Without --labels, the class of an image is the folder that holds it: synsets and whole numbers are known."""
    keys: str | None = None
    """List of objects to pack instead of --images: CSV, TSV, Parquet, or one path or URI a line; path or URI.
    Columns: uri (or path, file_name, …), and optionally key and label. Ray tasks read the objects, one task per shard.
    Objects that cannot be read are listed in OUTPUT/unread.csv."""
    sign_request: bool = True
    """`--no-sign-request` reads --keys and its objects without credentials, as public buckets allow;
    AWS_NO_SIGN_REQUEST=1 does too. The output needs credentials in any case."""
    dedup: bool = False
    """With --keys: pack only the first of several images with the same bytes; every object is then read twice."""
    retry_unread: bool = False
    """With --keys: read again what could not be read before, and repack its shards (with --dedup all shards)."""
    max_bad_rate: float = 0.01
    """With --keys: write no manifest if more than this share of the objects, and at least ten, cannot be read."""
    output: str
    """Folder or s3:// URI for the shards and their manifest."""
    labels: str | None = None
    """Table of labels: CSV, TSV, JSON lines, Parquet, or NAME LABEL a line; LOC_val_solution.csv.
    Columns: key (or file_name, path, ImageId, …; with or without suffix and leading folders) and label (or class,
    target, synset, …). Labels are whole numbers, synsets, or class names (with --classes); empty and -1 are none."""
    classes: str | None = None
    """File of class names, one a line in the order of labels, for folders or labels that are names.
    LOC_synset_mapping.txt and imagenet_class_index.json are such files too.
    `sorted`: labels are positions of the sorted names. `none`: folders are no classes, and no image gets a label."""
    devkit: str | None = None
    """ILSVRC2012_devkit_t12.tar.gz, which holds the labels of ILSVRC2012_img_val.tar."""
    samples_per_shard: int = 1000
    """Samples in each shard but the last; with --keys, objects of the list per shard."""
    format: Literal["tar", "parquet"] = "tar"
    """WebDataset tar, or Parquet with the columns key, image, label."""
    limit: int | None = None
    """Pack only the first N images."""
    dry_run: bool = False
    """Print what would be packed, then stop."""
    results_file: str | None = None
    """File (path or URI) to which the counts are written as JSON; a dry run writes none."""


def run(config: PackShardsConfig) -> int:
    """Pack, or with `dry_run` print what would be packed.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: if the images or labels cannot be used, or the output folder holds another packing.
    """
    _require_not_empty(config)
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"--limit {config.limit}: expected a positive number of images")
    if (config.images is None) == (config.keys is None):
        raise ValueError("give either --images, a path on this machine, or --keys, a list of objects")
    target = Target(output=config.output, format=config.format, samples_per_shard=config.samples_per_shard)
    if config.keys:
        return _collect(config, config.keys, target)
    for option, given in (("--dedup", config.dedup), ("--retry-unread", config.retry_unread)):
        if given:
            raise ValueError(f"{option} goes with --keys")
    with _opened(config, config.images or "") as (images, found):
        return _pack_images(config, images[: config.limit], found, target)


def _require_not_empty(config: PackShardsConfig) -> None:
    """Raise for an option of no text, as a variable that is not set gives it: it would count as left out."""
    for name in ("images", "keys", "output", "labels", "classes", "devkit", "results_file"):
        given: str | None = getattr(config, name)
        if given is not None and not given.strip():
            raise ValueError(f"--{name.replace('_', '-')} is empty; leave it out, or say what is meant")


def _pack_images(config: PackShardsConfig, images: Sequence[Image], found: Labelling, target: Target) -> int:
    """Pack the images that were found, or with `dry_run` print what would be packed."""
    shards = len(target.names(len(images)))
    counts = f"{count(len(images), 'sample')}, {label_range(images).count:,} labelled, in {count(shards, 'shard')}"
    earlier_packing(target, len(images))
    sys.stdout.write(f"labels: {found.understood}\n")
    if config.dry_run:
        require_same(images, target)
        sys.stdout.write(f"{counts} to be packed as {config.format} in {config.output}; nothing was written\n")
        return cli.DONE
    with Meter("shards", shards, expected=len(images)) as meter:
        packed = _pack(images, target, meter, found.classes)
    sys.stdout.write(f"{counts} packed as {config.format} in {config.output}\n")
    if config.results_file:
        storage.replace(config.results_file, _results_json(packed, config.output))
    return cli.DONE


def _collect(config: PackShardsConfig, keys: str, target: Target) -> int:
    """Pack the objects that the list names, in Ray tasks."""
    for option, given in (("--labels", config.labels), ("--devkit", config.devkit)):
        if given:
            raise ValueError(f"{option} {given}: with --keys, labels are a column of the list; leave it out")
    signed = signs(config.sign_request)
    listed = uri_list.UriList(
        uri=keys if signed else storage.anonymous(keys),
        limit=config.limit,
        classes=_classes_of_list(config.classes),
        signed=signed,
    )
    rows, understood = uri_list.check(listed)
    target = replace(target, output=storage.absolute(target.output))
    manifest.require_free(target.output, uri_list.MARK, uri_list.contents(listed, target, config.dedup))
    sys.stdout.write(f"list: {understood}\n")
    shards = -(-rows // config.samples_per_shard)
    if config.dry_run:
        sys.stdout.write(
            f"{count(rows, 'object')} to be read and packed in {count(shards, 'shard')}; nothing was written\n"
        )
        return cli.DONE
    storage.probe(target.output)
    # Ray takes seconds to load, and --help does not need it.
    from pipelines.packing import collect

    cluster.connect()
    if config.retry_unread:
        forgotten = collect.forget_unread(listed, target, config.dedup)
        say(f"again    {count(forgotten, 'slice')} of the list with objects that could not be read")
    done: dict[int, collect.Collected] = {}
    with Meter("shards", shards, expected=rows) as meter:

        def on_packed(number: int, part: "collect.Collected") -> None:
            done[number] = part
            images = sum(part.shard.rows for part in done.values() if part.shard)
            meter.update(len(done), images=images, bad=sum(len(part.unread) for part in done.values()))

        try:
            packed = collect.collect(listed, target, config.dedup, config.max_bad_rate, on_packed)
        finally:
            unread = [entry for number in sorted(done) for entry in done[number].unread]
            if unread:
                storage.replace(storage.join(target.output, "unread.csv"), _unread_csv(unread))
    _say_collected(config, packed, unread, sum(part.equal for part in done.values()))
    return cli.DONE


def _classes_of_list(classes: str | None) -> Classes | None:
    if classes in {SORTED, NONE}:
        raise ValueError(f"--classes {classes}: goes with --images; with --keys, give a file of class names")
    return None if classes is None else read_classes(classes)


def _unread_csv(unread: Sequence[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([("uri", "reason"), *unread])
    return text.getvalue().encode()


def _say_collected(config: PackShardsConfig, made: Manifest, unread: Sequence[tuple[str, str]], equal: int) -> None:
    packed = f"{count(made.samples, 'sample')}, {made.labels.count:,} labelled"
    equals = f"; {equal:,} duplicates left out" if config.dedup else ""
    sys.stdout.write(f"{packed}, in {count(len(made.shards), 'shard')} packed in {config.output}{equals}\n")
    if unread:
        sys.stdout.write(f"{len(unread):,} could not be read: {config.output}/unread.csv; the first: {unread[0][1]}\n")
        sys.stdout.write("the same command with --retry-unread tries them again\n")
    if config.results_file:
        storage.replace(config.results_file, _results_json(made, config.output))


@contextmanager
def _opened(config: PackShardsConfig, images: str) -> Generator[tuple[Sequence[Image], Labelling]]:
    """The images and labels that the options name; an option that would have no effect is an error."""
    if storage.is_remote(images):
        raise ValueError(f"--images {images}: images are packed from a local path; --keys reads objects by URI")
    path, given = storage.local_path(images), labelling.given(config.labels, config.classes)
    if path.is_dir():
        if config.devkit:
            raise ValueError(f"--devkit goes with ILSVRC2012_img_val.tar, not with the folder {images}")
        yield folders.list_images(path, given)
        return
    if not path.is_file():
        raise FileNotFoundError(f"--images {images}: no such folder or archive")
    with archives.opened(path) as archive:
        yield archives.list_images(archive, given, storage.local_path(config.devkit) if config.devkit else None)


def _pack(images: Sequence[Image], target: Target, meter: Meter, classes: Classes | None) -> Manifest:
    done: list[PackedShard] = []

    def on_packed(shard: PackedShard) -> None:
        done.append(shard)
        meter.update(len(done), images=sum(shard.rows for shard in done))

    return pack(images, target, on_packed, classes.labels if classes else None)


def _results_json(made: Manifest, output: str) -> bytes:
    results = {
        "samples": made.samples,
        "labelled": made.labels.count,
        "shards": len(made.shards),
        "bytes": sum(shard.size for shard in made.shards),
        "output": output,
    }
    return (json.dumps(results, indent=1) + "\n").encode()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(PackShardsConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
