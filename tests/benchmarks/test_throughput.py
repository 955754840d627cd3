"""Images a second of the walk beside a plain loop, in one run: `make benchmark` prints where the time goes.

Asserts no times: what it says depends on the machine, and only the ratios of one run mean anything.
"""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.cluster import connection
from pipelines.data.dataset import find_dataset
from pipelines.packing.folders import list_images
from pipelines.packing.pack import Target, pack
from pipelines.records import Settings
from pipelines.walk import filling
from pipelines.walk.options import RunOptions
from pipelines.walk.rounds import Progress
from zoo.weights import wanted

MODEL, BATCH = "efficientnet_lite0", 32
CARD = zoo.card(MODEL)


@pytest.mark.benchmark_run
@pytest.mark.timeout(900)
def test_the_walk_beside_a_plain_loop(sample_images: Path, tmp_path, capsys) -> None:
    images = list_images(sample_images / "images", str(sample_images / "labels.csv"))
    encoded = [image.read() for image in images]
    target = Target(output=str(tmp_path / "val"), format="tar", samples_per_shard=50)
    pack(images, target, lambda _: None)
    lines = ["", f"{len(images)} images, {MODEL}, fp32, batch {BATCH}, {torch.get_num_threads()} cores"]
    plain = list(plain_loop(encoded))
    lines += [line for _, line in plain]
    steady, told = walk(str(tmp_path / "val"), str(tmp_path / "out"), len(images))
    lines += told + [f"steady state over the plain loop: {steady / rate:.2f} ({line[12:23]})" for rate, line in plain]
    with capsys.disabled():
        print("\n".join(lines))


def plain_loop(encoded: list[bytes]) -> Iterator[tuple[float, str]]:
    """One process that decodes a batch, scores it, decodes the next; with one thread and with all. Rate and line."""
    model = zoo.create(MODEL, weights="card")
    cores = torch.get_num_threads()
    for threads in sorted({1, cores}):
        torch.set_num_threads(threads)
        started, decoding = time.perf_counter(), 0.0
        for start in range(0, len(encoded), BATCH):
            before = time.perf_counter()
            pixels = np.stack([decode(image) for image in encoded[start : start + BATCH]])
            decoding += time.perf_counter() - before
            with torch.inference_mode():
                model(pixels_to_input(pixels)).softmax(1)
        seconds = time.perf_counter() - started
        rate = len(encoded) / seconds
        yield rate, f"plain loop, {threads} thread(s): {rate:6.1f} img/s   (decode {decoding:.1f} s of {seconds:.1f} s)"
    torch.set_num_threads(cores)


def walk(data: str, store: str, images: int) -> tuple[float, list[str]]:
    """The same through Ray: the rate once running, and where the whole time goes."""
    column = Column(card=CARD, file=wanted.published(zoo.card(MODEL)), settings=Settings(batch_size=BATCH))
    plan = plan_cells(store, find_dataset([data]), [column])
    seen: list[tuple[float, Progress]] = []
    started = time.perf_counter()
    connection.connect()
    connected = time.perf_counter()
    filling.fill(store, plan, RunOptions(device="cpu"), lambda progress: seen.append((time.perf_counter(), progress)))
    ended = time.perf_counter()
    (first, begun), (last, finished) = seen[0], seen[-1]
    rate = (finished.images - begun.images) / (last - first)
    return rate, [
        f"the walk, steady state:  {rate:6.1f} img/s",
        f"the walk, whole:         {images / (ended - started):6.1f} img/s, of {ended - started:.1f} s:",
        f"    starting Ray         {connected - started:6.1f} s",
        f"    starting workers     {first - connected:6.1f} s to the first scores (torch, weights, first batch)",
        f"    scoring              {last - first:6.1f} s",
        f"    closing              {ended - last:6.1f} s",
    ]


def decode(encoded: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    geometry = CARD.preprocessing.geometry
    scale = geometry.resize / min(picture.size)
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = (picture.width - geometry.size) // 2, (picture.height - geometry.size) // 2
    return np.asarray(picture.crop((left, top, left + geometry.size, top + geometry.size)))


def pixels_to_input(pixels: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CARD.preprocessing.mean, CARD.preprocessing.std))
    return (x - mean) / std
