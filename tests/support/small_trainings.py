"""Small trainings for tests: labelled shards of small pictures, a model that learns them, and its parts."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.data.dataset import find_dataset
from pipelines.pixels.random_crop import Augmentation
from pipelines.records import Dataset
from pipelines.training import order
from pipelines.training.batches import PART, SampleBatch, WorkerShare, decode_samples, gather_batches, read_parts
from pipelines.training.order import Order
from pipelines.training.recipe import Recipe
from pipelines.training.specification import Pace, Stage, Training
from tests.support.shard_files import Members, labelled, put_shards
from zoo.cards import Card
from zoo.preprocessing import Preprocessing

CLASSES = 4
PREPROCESSING = Preprocessing(size=12, crop_pct=1.0, interpolation="bilinear")
CARD = Card(
    name="pupil",
    architecture="cifar_resnet8",
    preprocessing=PREPROCESSING,
    weights=None,
    claims=(),
    paper="",
    num_classes=CLASSES,
)
RECIPE = Recipe(epochs=8, batch=16, micro_batch=8, lr_per_256=1.6, drops=3, crop_scale=(0.6, 1.0), flip=0.0)
HOW = Augmentation(size=12, interpolation="bilinear", scale=(0.6, 1.0), ratio=(0.75, 1.34), flip=0.5)


def picture(label: int, seed: int) -> bytes:
    """A PNG whose brightest quarter says its class."""
    pixels = np.random.default_rng([label, seed]).integers(0, 90, (14, 14, 3), np.uint8)
    row, column = divmod(label, 2)
    pixels[7 * row : 7 * row + 7, 7 * column : 7 * column + 7] += 120
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder: str, shards_: int = 4, rows: int = 12, first: int = 0) -> Dataset:
    """Shards of labelled images; a key is `SHARD-INDEX`."""

    def sample(shard: int, index: int) -> Members:
        label = (shard + index) % CLASSES
        return labelled(f"{shard}-{index}", picture(label, first + 100 * shard + index), label, "png")

    put_shards(folder, ([sample(shard, index) for index in range(rows)] for shard in range(shards_)))
    return find_dataset([folder])


def stage(dataset: Dataset, rows: int = 12, **changes: Any) -> Stage:
    """A first stage on the shards of `put`."""
    how = replace(RECIPE, **changes)
    return Stage(name="pretrain", recipe=how, dataset=dataset, rows=(rows,) * len(dataset.shards), streams=4)


def training(home: Path | str, stages: Sequence[Stage], validation: Dataset, **changes: Any) -> Training:
    """A training of these stages."""
    plain: dict[str, Any] = {
        "home": str(home),
        "card": CARD,
        "stages": tuple(stages),
        "validation": validation,
        "seed": 5,
        "precision": "fp32",
        "channels_last": False,
        "device": "cpu",
        "workers": 1,
        "pace": Pace(log_every=16, validate_every=10_000),
    }
    return Training(**plain | changes)


def ration(dataset: Dataset, rows: Sequence[int], batch: int = 16, rank: int = 0, workers: int = 1) -> WorkerShare:
    """What one of so many workers is fed."""
    given = Order(tuple(rows), batch, order.streams(len(rows), batch, 4), 5, "pretrain")
    return WorkerShare(
        order=given,
        places=order.places(given, rank, workers),
        shards=dataset.shards,
        augmentation=HOW,
        classes=CLASSES,
    )


def batches(ration_: WorkerShare, first: int, last: int) -> list[SampleBatch]:
    """Its batches, without Ray."""
    parts = [{"start": start, "stop": stop} for start, stop in order.parts(ration_.order, first, last)]
    read = read_parts(pa.Table.from_pylist(parts, schema=PART), ration_)
    return list(gather_batches((decode_samples(table, ration_.augmentation, ration_.salt) for table in read), ration_))
