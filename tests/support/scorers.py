"""Chunks of pixels for tests of the scorer, and scorers whose models are functions."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

import zoo
from pipelines.cells.column import Column
from pipelines.models import mirror
from pipelines.pixels.decoded import decoded_schema
from pipelines.records import Settings
from pipelines.walk.passes import PassConfig
from pipelines.walk.scorer import Scorer
from zoo.weights import wanted

NAME = "efficientnet_lite0"
CARD = zoo.card(NAME)
COLUMN = Column(card=CARD, file=wanted.published(CARD), settings=Settings(batch_size=4))
CONFIG = PassConfig(
    columns=(COLUMN,),
    views=(COLUMN.view,),
    chunk=4,
    device="cpu",
    memory=None,
)
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 224, 224, 3), np.uint8)


def with_column(**changes: object) -> PassConfig:
    return replace(CONFIG, columns=(replace(COLUMN, **changes),))


class Network(torch.nn.Module):
    """Logits by a function of the images."""

    def __init__(self, logits: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.forward = logits


def with_networks(monkeypatch, *logits: Callable[[torch.Tensor], torch.Tensor], **changes: object) -> Scorer:
    """A scorer whose models are these functions, where no file of weights gives such a model."""
    networks = iter(map(Network, logits))
    monkeypatch.setattr(mirror, "load", lambda *_: next(networks))
    return Scorer(replace(CONFIG, columns=(COLUMN,) * len(logits), **changes))


def chunk(pixels: np.ndarray, labels=None, errors=None, *, start=0, last=True) -> pa.Table:
    rows = len(pixels)
    row = {
        "shard": 5,
        "start": start,
        "last": last,
        "failure": None,
        "keys": [f"k{start + i}" for i in range(rows)],
        "labels": labels or list(range(rows)),
        "offsets": [512 * (start + i) for i in range(rows)],
        "digests": [start + i for i in range(rows)],
        "errors_0": errors or [None] * rows,
        "pixels_0": pixels.tobytes(),
    }
    return pa.Table.from_pylist([row], schema=decoded_schema(1))


def score(scorer: Scorer, *args, **options) -> list[dict]:
    return pa.concat_tables(scorer(chunk(*args, **options))).to_pylist()
