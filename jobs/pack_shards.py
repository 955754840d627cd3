"""Packs images into shards that evaluation reads: a folder, or ImageNet's own archives.

    python -m jobs.pack_shards --images photos --labels labels.csv --output s3://bucket/photos --samples-per-shard 1000
    python -m jobs.pack_shards --images ILSVRC2012_img_val.tar --devkit ILSVRC2012_devkit_t12.tar.gz --output val

Owns the options and what is said. Refuses bad input with one line and exit code 2. The images' bytes packed as they
are, and the same images give the same shards: after an interruption the same command completes them.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs import cli
from jobs.progress import Meter, count
from pipelines import archives, sources, storage
from pipelines.manifest import Manifest, PackedShard
from pipelines.pack import Target, earlier_packing, label_range, pack
from pipelines.sources import Image


@dataclass(frozen=True, kw_only=True)
class PackShardsConfig(cli.Job):
    """What to pack, into what."""

    images: str
    """Folder (with --labels, or a folder for each class), ILSVRC2012_img_val.tar or ILSVRC2012_img_train.tar."""
    output: str
    """Folder or s3:// URI for the shards and their manifest."""
    labels: str | None = None
    """CSV with the columns `key` (path below the folder without suffix) and `label`."""
    devkit: str | None = None
    """ILSVRC2012_devkit_t12.tar.gz, which labels the validation tar."""
    samples_per_shard: int = 1000
    """Samples in each shard but the last."""
    format: Literal["tar", "parquet"] = "tar"
    """WebDataset tar, or Parquet with the columns key, image, label."""
    limit: int | None = None
    """Pack only the first N images."""
    dry_run: bool = False
    """Say what would be packed, and write nothing."""
    results_file: str | None = None
    """Where to write the counts as JSON; a dry run writes none."""


def run(config: PackShardsConfig) -> int:
    """Pack, or with `dry_run` say what would be packed.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: if the images or labels cannot be used, or another packing is in the output folder.
    """
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"--limit {config.limit}: expected a positive number of images")
    target = Target(output=config.output, format=config.format, samples_per_shard=config.samples_per_shard)
    images = _find(config)[: config.limit]
    shards = len(target.names(len(images)))
    counts = f"{count(len(images), 'sample')}, {label_range(images).count:,} labelled, in {count(shards, 'shard')}"
    if config.dry_run:
        earlier_packing(target, len(images))
        sys.stdout.write(f"{counts} to be packed as {config.format} in {config.output}; nothing was written\n")
        return 0
    with Meter("shards", shards, expected=len(images)) as meter:
        manifest = _pack(images, target, meter)
    sys.stdout.write(f"{counts} packed as {config.format} in {config.output}\n")
    if config.results_file:
        storage.replace(config.results_file, _results(manifest, config.output))
    return 0


def _find(config: PackShardsConfig) -> list[Image]:
    """The images and labels that the options name; an option that would be ignored is an error."""
    if storage.is_remote(config.images):
        raise ValueError(f"--images {config.images}: images are packed from a local path")
    path = storage.local_path(config.images)
    if path.is_dir():
        if config.devkit:
            raise ValueError(f"--devkit goes with ILSVRC2012_img_val.tar, not with the folder {config.images}")
        return sources.folder(path, config.labels)
    if not path.is_file():
        raise FileNotFoundError(f"--images {config.images}: no such folder or archive")
    if config.labels:
        raise ValueError(f"--labels goes with a folder of images, not with the file {config.images}")
    return archives.archive(path, storage.local_path(config.devkit) if config.devkit else None)


def _pack(images: Sequence[Image], target: Target, meter: Meter) -> Manifest:
    done: list[PackedShard] = []

    def written(shard: PackedShard) -> None:
        done.append(shard)
        meter.update(len(done), images=sum(shard.rows for shard in done))

    return pack(images, target, written)


def _results(manifest: Manifest, output: str) -> bytes:
    results = {
        "samples": manifest.samples,
        "labelled": manifest.labels.count,
        "shards": len(manifest.shards),
        "bytes": sum(shard.size for shard in manifest.shards),
        "output": output,
    }
    return (json.dumps(results, indent=1) + "\n").encode()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(PackShardsConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
