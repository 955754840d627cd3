"""Small trainings for tests: labelled shards of small images, a model that learns them, and its parts."""

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
from pipelines.training.recipe import Recipe
from pipelines.training.sampling import order
from pipelines.training.sampling.batches import SampleBatch, gather_batches
from pipelines.training.sampling.order import Order
from pipelines.training.sampling.samples import RANGE, WorkerShare, decode_samples, read_ranges
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
AUGMENTATION = Augmentation(size=12, interpolation="bilinear", scale=(0.6, 1.0), ratio=(0.75, 1.34), flip=0.5)


def image(label: int, seed: int) -> bytes:
    """A PNG whose brightest quarter is its class."""
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
        return labelled(f"{shard}-{index}", image(label, first + 100 * shard + index), label, "png")

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


def worker_share(
    dataset: Dataset, rows: Sequence[int], batch: int = 16, rank: int = 0, world_size: int = 1
) -> WorkerShare:
    """What worker `rank` of `world_size` sees."""
    given = Order(tuple(rows), batch, order.streams(len(rows), batch, 4), 5, "pretrain")
    return WorkerShare(
        order=given,
        slots=order.worker_slots(given, rank, world_size),
        shards=dataset.shards,
        augmentation=AUGMENTATION,
        classes=CLASSES,
    )


def batches(share: WorkerShare, first: int, last: int) -> list[SampleBatch]:
    """The worker's batches of the steps [first, last), without Ray."""
    ranges = [{"start": one.start, "stop": one.stop} for one in order.ranges(share.order, first, last)]
    read = read_ranges(pa.Table.from_pylist(ranges, schema=RANGE), share)
    return list(gather_batches((decode_samples(table, share.augmentation, share.salt) for table in read), share))
