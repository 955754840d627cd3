"""Seconds and megabytes to plan very many shards: `make benchmark` prints them.

Asserts no times, but that a shard among ten times as many takes about as long. On S3, ours stands beside a plain
listing: the test server's own share of a page grows with all that it holds.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

import zoo
from pipelines.cells.cell import cell_uri
from pipelines.cells.column import Column
from pipelines.data.dataset import find_dataset
from pipelines.data.manifest import Labels, Manifest, PackedShard, write_manifest
from pipelines.records import Settings
from pipelines.storage import s3_read
from zoo.weights import wanted

FEW, MANY, ON_S3 = 10_000, 100_000, 20_000
CARD = zoo.card("efficientnet_lite0")
PLAN = """
import json, sys, time
from pathlib import Path
import zoo
from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.data.dataset import find_dataset
from pipelines.records import Settings
from zoo.weights import wanted

card = zoo.card("efficientnet_lite0")
file = wanted.published(card)
columns = [Column(card=card, file=file, settings=Settings(batch_size=size)) for size in (1, 2, 4, 8, 16)]
started = time.perf_counter()
dataset = find_dataset(sys.argv[2:])
found = time.perf_counter()
plan = plan_cells(sys.argv[1], dataset, columns)
planned = time.perf_counter()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([plan.pending, found - started, planned - found, int(peak.split()[1]) / 1024]))
"""
"""In a process of its own, for its peak of memory."""


@pytest.mark.benchmark_run
@pytest.mark.timeout(900)
def test_planning_takes_about_as_long_for_each_of_many_shards_as_for_each_of_few(tmp_path: Path, capsys) -> None:
    lines, best = [""], {}
    for count in (FEW, MANY):
        folder = packed(tmp_path / str(count) / "val", count)
        commit_half(tmp_path / str(count), str(folder))
        patterns = {"a folder": str(folder), "braces": f"{folder}/{{00000..{count - 1:05d}}}.tar"}
        for kind, source in patterns.items():
            pending, finding, planning, peak = best_of_three(str(tmp_path / str(count)), source)
            assert pending == 4.5 * count
            best[kind, count] = (finding + planning) / count
            lines.append(f"{count:7} shards, {kind:8}: find {finding:.2f} s, plan {planning:.2f} s, {peak:.0f} MB")
    growth = {kind: best[kind, MANY] / best[kind, FEW] for kind, _ in best}
    with capsys.disabled():
        print("\n".join([*lines, f"a shard among many over a shard among few: {growth}"]))
    assert max(growth.values()) < 3


def packed(folder: Path, count: int) -> Path:
    """A folder of `count` shards of no bytes, and their manifest."""
    folder.mkdir(parents=True)
    names = [f"{number:05d}.tar" for number in range(count)]
    for name in names:
        (folder / name).touch()
    promised = tuple(PackedShard(name=name, size=0, rows=1000, sha256="a" * 64) for name in names)
    labels = Labels(min=0, max=999, count=1000 * count)
    write_manifest(str(folder), Manifest(samples=1000 * count, labels=labels, shards=promised))
    return folder


def commit_half(store: Path, source: str) -> None:
    """The first half of a column's cells; planning opens none."""
    column = Column(card=CARD, file=wanted.published(CARD), settings=Settings(batch_size=1))
    dataset = find_dataset([source])
    for shard in dataset.shards[: len(dataset.shards) // 2]:
        cell = Path(cell_uri(str(store), dataset, column, shard))
        cell.parent.mkdir(parents=True, exist_ok=True)
        cell.touch()


def best_of_three(store: str, source: str) -> list[float]:
    """Cells pending, seconds to find and to plan, peak megabytes."""
    command = [sys.executable, "-c", PLAN, store, source]
    runs = [subprocess.run(command, check=True, capture_output=True) for _ in range(3)]
    return min((json.loads(run.stdout) for run in runs), key=lambda measured: measured[1] + measured[2])


@pytest.mark.benchmark_run
@pytest.mark.timeout(900)
def test_finding_on_s3_beside_a_plain_listing(s3_server: str, tmp_path: Path, capsys) -> None:
    folder = f"{s3_server}/{tmp_path.name}/val"
    bucket, prefix = s3_read.split(folder)
    for number in range(ON_S3):
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{prefix}/{number:05d}.tar", b"x")
    lines = ["", f"{ON_S3} shards on S3, seconds beside those of boto3's own listing:"]
    for kind, source in (("a folder", folder), ("braces", f"{folder}/{{00000..{ON_S3 - 1:05d}}}.tar")):
        plain, ours = seconds(lambda: listed(bucket, prefix)), seconds(lambda at=source: find_dataset([at]))
        lines.append(f"    {kind:8}: {ours:.2f} / {plain:.2f} = {ours / plain:.2f}")
    with capsys.disabled():
        print("\n".join(lines))


def listed(bucket: str, prefix: str) -> int:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    return sum(len(page["Contents"]) for page in pages)


def seconds(call) -> float:
    """The best of three."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)
