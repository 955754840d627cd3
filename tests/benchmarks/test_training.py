"""Images a second of a training on Ray, beside a plain PyTorch loop: `make benchmark`.

Asserts no times. The same model, batch, threads and pictures, in turn, in one run. The plain loop is what one would
write by hand: a DataLoader of as many worker processes as there are cores, Pillow, SGD. What either needs to start is
left out: rates are of the second half.
"""

import io
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pipelines.cluster import connection
from pipelines.data.dataset import find_dataset
from pipelines.packing.folders import list_images
from pipelines.packing.pack import Target, pack
from pipelines.training import driver
from pipelines.training.progress import TrainingProgress
from pipelines.training.recipe import Recipe
from pipelines.training.specification import Pace, Stage, Training
from zoo.cards import Card
from zoo.preprocessing import Preprocessing

MODELS = {"resnest14d": 64, "cifar_resnet20": 32}
"""A model of the zoo, and one so small that reading and decoding cost more than learning; pixels a side."""
BATCH, STEPS, CLASSES = 32, 60, 10
SEEN = Preprocessing(size=64, crop_pct=1.0, interpolation="bilinear")


class Pictures(Dataset):
    """Encoded pictures, cropped as a training crops them."""

    def __init__(self, encoded: list[bytes], size: int) -> None:
        self.encoded, self.size = encoded, size

    def __len__(self) -> int:
        return BATCH * STEPS

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        random = np.random.default_rng(at)
        picture = Image.open(io.BytesIO(self.encoded[at % len(self.encoded)])).convert("RGB")
        side = min(picture.size) * random.uniform(0.6, 1.0)
        left, top = random.uniform(0, picture.width - side), random.uniform(0, picture.height - side)
        pixels = picture.resize(
            (self.size, self.size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
        return torch.from_numpy(np.asarray(pixels).copy()), at % CLASSES


@pytest.mark.benchmark_run
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MODELS)
def test_a_training_beside_a_plain_loop(name: str, jpegs: list[bytes], tmp_path: Path, capsys) -> None:
    card = Card(
        name="x",
        architecture=name,
        preprocessing=replace(SEEN, size=MODELS[name]),
        weights=None,
        claims=(),
        paper="",
        num_classes=CLASSES,
    )
    with capsys.disabled():
        connection.connect()
        rates = {"plain loop": [], "training": []}
        for _ in range(2):
            rates["plain loop"].append(plain_loop(card, jpegs))
            rates["training"].append(of_training(card, jpegs, tmp_path / str(len(rates["training"]))))
        best = {what: max(values) for what, values in rates.items()}
        print(f"\n{name}, {MODELS[name]} px, batch {BATCH}, {os.cpu_count()} threads:")
        print(*(f"  {what:12} {rate:7.1f} img/s" for what, rate in best.items()), sep="\n")
        print(f"  ratio        {best['training'] / best['plain loop']:7.2f}")


def plain_loop(card: Card, encoded: list[bytes]) -> float:
    torch.set_num_threads(os.cpu_count() or 1)
    network = card.network.build(CLASSES).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (SEEN.mean, SEEN.std))
    loader = DataLoader(Pictures(encoded, card.preprocessing.size), BATCH, num_workers=os.cpu_count() or 1)
    started = 0.0
    for step, (pixels, labels) in enumerate(loader):
        if step == STEPS // 2:
            started = time.perf_counter()
        optimiser.zero_grad()
        x = pixels.permute(0, 3, 1, 2).float().div(255).sub(mean).div(std).contiguous()
        F.cross_entropy(network(x), labels).backward()
        optimiser.step()
    return (STEPS - STEPS // 2) * BATCH / (time.perf_counter() - started)


def of_training(card: Card, encoded: list[bytes], home: Path) -> float:
    photos = home / "photos"
    photos.mkdir(parents=True)
    rows = ["key,label\n"]
    for i in range(400):
        (photos / f"{i:04d}.jpg").write_bytes(encoded[i % len(encoded)])
        rows.append(f"{i:04d},{i % CLASSES}\n")
    (home / "labels.csv").write_text("".join(rows))
    target = Target(output=f"{home}/shards", format="tar", samples_per_shard=100)
    pack(list_images(photos, f"{home}/labels.csv"), target, lambda _: None)
    data = find_dataset([f"{home}/shards"])
    how = Recipe(images=BATCH * STEPS, batch=BATCH, micro_batch=BATCH, crop_scale=(0.6, 1.0))
    stage = Stage(
        name="pretrain", recipe=how, dataset=data, rows=tuple(shard.rows or 0 for shard in data.shards), streams=4
    )
    reports: list[TrainingProgress] = []
    given = Training(
        home=f"{home}/training",
        card=card,
        stages=(stage,),
        validation=data,
        seed=0,
        precision="fp32",
        channels_last=False,
        device="cpu",
        workers=1,
        pace=Pace(log_every=BATCH * STEPS // 2, validate_every=10**9),
    )
    driver.train(given, reports.append, lambda _: None)
    print(f"  {card.architecture}: {reports[-1].waiting:.0%} of the time waiting for data")
    return reports[-1].images_per_second
