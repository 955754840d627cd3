"""Images a second of a walk that only decodes, beside Pillow's own limit: `make benchmark` prints the ratios.

The walk is the real one, with a step that counts rows in the place of the models: it takes the pixels as a scorer does
and costs nothing, so that reading, decoding and passing on are what is left. Rates are of one core: images a second of
processor time of all processes together (Ray's own too), which other load on the machine moves little, and of wall
time. Asserts no times.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import get_args

import psutil
import pyarrow as pa
import pytest
from PIL import Image

import zoo
from pipelines.cells.column import Column
from pipelines.data.dataset import find_dataset
from pipelines.records import Decoder, Settings, Shard
from pipelines.walk import dataflow
from pipelines.walk.options import RunOptions
from tests.support.pictures import reference
from zoo.preprocessing import Geometry
from zoo.weights import wanted

MODELS = ["efficientnet_lite0", "resnest50d", "resnest101e", "resnest200e"]
"""Of four geometries."""
COPIES, SHARD, SHORT = 6, 250, 2
CHUNKS = (32, 128)
"""Pictures that travel together: what Ray does for each chunk costs as much as decoding a dozen."""


@pytest.mark.benchmark_run
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("local_ray")
def test_the_walk_beside_pillows_own_limit(sample_images: Path, write_tar, tmp_path, monkeypatch, capsys) -> None:
    paths = sorted((sample_images / "images").iterdir())
    pictures = [path.read_bytes() for path in paths] * COPIES
    for start in range(0, len(pictures), SHARD):
        part = pictures[start : start + SHARD]
        members = [(f"{start + i:06}.jpg", content) for i, content in enumerate(part)]
        write_tar(tmp_path / "val" / f"{start:06}.tar", members)
    monkeypatch.setattr(dataflow, "ScorerActor", counter())
    lines = ["", f"{len(pictures)} images, {psutil.cpu_count()} cores; img/s of one core by processor time (wall time)"]
    for models in (MODELS[:1], MODELS):
        limit = plain_pillow(paths, [zoo.card(name).preprocessing.geometry for name in models])
        lines += [f"{len(models)} geometries: Pillow, single thread: {limit:6.1f}"]
        for chunk, decoder in itertools.product(CHUNKS, get_args(Decoder)):
            busy, wall = decoding_walk(str(tmp_path / "val"), models, decoder, chunk)
            told = f"{busy:6.1f} ({wall:6.1f}): {busy / limit:.2f} ({wall / limit:.2f}) of it"
            lines += [f"    walk, {decoder:5}, chunks of {chunk:3}: {told}"]
    with capsys.disabled():
        print("\n".join(lines))


def counter() -> type:
    """A scorer of no cost. Made in a function, so that it travels: workers know no module of tests."""

    class Counter:
        def __init__(self, _: object) -> None:
            pass

        def __call__(self, decoded: pa.Table) -> Iterator[pa.Table]:
            assert all(error is None for error in decoded["errors_0"][0].as_py())
            yield pa.table({"images": [len(decoded["keys"][0])]})

    return Counter


def plain_pillow(paths: list[Path], geometries: list[Geometry]) -> float:
    """Images a second of reading, decoding and resizing in a plain loop, the best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for path in paths:
            picture = Image.open(BytesIO(path.read_bytes())).convert("RGB")
            for geometry in geometries:
                reference(picture, geometry)
        best = min(best, time.process_time() - started)
    return len(paths) / best


def decoding_walk(data: str, models: list[str], decoder: Decoder, chunk: int) -> tuple[float, float]:
    """Images a second of one core, by processor time and by wall time: what a long walk takes more than a short one.

    So starting and ending count for nothing, nor does what is under way at any moment in between.
    """
    cards = [zoo.card(name) for name in models]
    settings = Settings(batch_size=chunk)
    columns = [Column(card=c, file=wanted.published(c), settings=settings, decoder=decoder) for c in cards]
    found = find_dataset([data]).shards
    costs = [cost(columns, part) for part in (found[:SHORT], found[:SHORT], found)]  # the first starts the workers
    images, busy, wall = (long - short for short, long in zip(*costs[1:], strict=True))
    return images / busy, images / wall / psutil.cpu_count()


def cost(columns: list[Column], part: Sequence[Shard]) -> tuple[int, float, float]:
    """Images, processor seconds and wall seconds of a walk over `part`; what has ended since counts as last seen."""
    before, began, images = processor_seconds(), time.perf_counter(), 0
    after, looked = before, began
    for table in dataflow.walk(columns, part, range(len(part)), RunOptions(device="cpu")):
        images += sum(table["images"].to_pylist())
        if time.perf_counter() - looked > 1:  # looking costs too
            after, looked = after | processor_seconds(), time.perf_counter()
    after |= processor_seconds()
    return images, sum(after.values()) - sum(before.values()), time.perf_counter() - began


def processor_seconds() -> dict[int, float]:
    """Of this process and all that live below it, by process id."""
    seconds = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            seconds[process.pid] = sum(process.cpu_times()[:2])
    return seconds
