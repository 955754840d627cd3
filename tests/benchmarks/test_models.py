"""Models in fp32, bf16 and as tuned, through the walk, beside a plain loop of as many processes: `make benchmark`.

Asserts no times: what it says depends on the machine, and only the ratios of one run mean anything. The plain loop is
what one would write by hand: a process a core, each of one thread, which decodes with Pillow and scores channels_last
batches. Weights are random; speed does not depend on them.
"""

import io
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
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
from pipelines.models import tune
from pipelines.packing.folders import list_images
from pipelines.packing.pack import Target, pack
from pipelines.records import Settings
from pipelines.walk import filling
from pipelines.walk.options import RunOptions
from pipelines.walk.rounds import Progress
from tests.support import random_models
from tests.support.paths import ROOT
from zoo.cards.reader import read_cards
from zoo.preprocessing import Geometry
from zoo.weights import wanted

MODELS = ("selecsls42b", "ssl_resnext50_32x4d", "resnest50d")
IMAGES = 1000
SHARDS = 4
"""Of 250 images: the last batch of each shard is padded, of which shards of 100 images would be a quarter."""
BATCH = 32
PROCESSES = os.cpu_count() or 1


@pytest.mark.benchmark_run
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_through_the_walk_beside_a_plain_loop(
    name: str, sample_images: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)  # the loop's processes import this module
    card, column = random_column(name, tmp_path / "cards")
    encoded = put_images(sample_images, tmp_path / "photos")
    pack(
        list_images(tmp_path / "photos", f"{tmp_path}/labels.csv"),
        Target(output=f"{tmp_path}/val", format="tar", samples_per_shard=-(-IMAGES // SHARDS)),
        lambda _: None,
    )
    lines = ["", f"{name}, {IMAGES} images, {PROCESSES} processes of one thread"]
    with capsys.disabled():
        loops = {precision: plain_loop(column, encoded, precision) for precision in ("fp32", "bf16")}
        lines += [f"{'plain loop, ' + precision:34} {rate:6.1f} img/s" for precision, rate in loops.items()]
        connection.connect()
        for told, settings in ways(card):
            steady, whole = walk(replace(column, settings=settings), f"{tmp_path}/val", f"{tmp_path}/{told}")
            ratio = steady / loops[settings.precision]
            lines.append(f"{'walk, ' + told:34} {steady:6.1f} img/s, {ratio:.2f} of the loop, whole {whole:.1f} s")
            lines.append(f"{'':34} ({settings})")
        print("\n".join(lines))


def random_column(name: str, place: Path) -> tuple[zoo.Card, Column]:
    (card,) = read_cards(random_models.put_cards(place, [name]).read_bytes(), str(place))
    return card, Column(card=card, file=wanted.published(card), settings=Settings(batch_size=BATCH))


def put_images(source: Path, place: Path) -> list[bytes]:
    """The sample pictures over and over, each under a name of its own, and labels beside them."""
    place.mkdir()
    files = sorted(path for path in (source / "images").iterdir() if path.is_file())
    names = [f"{number:06}.jpg" for number in range(IMAGES)]
    encoded = [path.read_bytes() for path in islice(cycle(files), IMAGES)]
    for name, content in zip(names, encoded, strict=True):
        (place / name).write_bytes(content)
    (place.parent / "labels.csv").write_text(
        "key,label\n" + "".join(f"{name.removesuffix('.jpg')},0\n" for name in names)
    )
    return encoded


def ways(card: zoo.Card) -> list[tuple[str, Settings]]:
    """What is run: settings equal to the loop's, and tuned ones, in two precisions."""
    found = []
    for precision in ("fp32", "bf16"):
        found.append((f"{precision} as the loop", Settings(precision=precision, batch_size=BATCH, channels_last=True)))
        found.append((f"{precision} tuned", tune.tune(card, precision, "cpu", lambda _: None).settings))
    return found


def walk(column: Column, data: str, store: str) -> tuple[float, float]:
    """Images a second once running, and seconds from a Ray that is there to the last cell."""
    plan = plan_cells(store, find_dataset([data]), [column])
    seen: list[tuple[float, Progress]] = []
    started = time.perf_counter()
    outcome = filling.fill(
        store, plan, RunOptions(device="cpu"), lambda progress: seen.append((time.perf_counter(), progress))
    )
    whole = time.perf_counter() - started
    assert not outcome.plan.pending, outcome
    (first, begun), (last, finished) = seen[0], seen[-1]
    return (finished.images - begun.images) / (last - first), whole


def plain_loop(column: Column, encoded: Sequence[bytes], precision: str) -> float:
    """Images a second of all processes together, each on its share, from a common start once all are warm."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(PROCESSES), context.Queue()
    parts = [encoded[number::PROCESSES] for number in range(PROCESSES)]
    workers = [
        context.Process(target=loop, args=(column, part, precision, ready, results), daemon=True) for part in parts
    ]
    for worker in workers:
        worker.start()
    times = [results.get(timeout=900) for _ in workers]
    for worker in workers:
        worker.join()
    return len(encoded) / (max(end for _, end in times) - min(start for start, _ in times))


def loop(column: Column, encoded: Sequence[bytes], precision: str, ready, results) -> None:
    """One process of the plain loop."""
    torch.set_num_threads(1)
    pre = column.card.preprocessing
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (pre.mean, pre.std))
    model = zoo.create(column.card, weights=column.file)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def score(images: Sequence[bytes]) -> None:
        pixels = torch.stack([torch.from_numpy(decode(image, pre.geometry).copy()) for image in images])
        x = ((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model(x).float().softmax(1).topk(10)

    score(encoded[:BATCH])
    ready.wait()
    started = time.time()
    for start in range(0, len(encoded), BATCH):
        score(encoded[start : start + BATCH])
    results.put((started, time.time()))


def decode(encoded: bytes, geometry: Geometry) -> np.ndarray:
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    scale = geometry.resize / min(picture.size)
    resampling = Image.Resampling[geometry.interpolation.upper()]
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), resampling)
    left, top = (picture.width - geometry.size) // 2, (picture.height - geometry.size) // 2
    return np.asarray(picture.crop((left, top, left + geometry.size, top + geometry.size)))
