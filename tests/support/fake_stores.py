"""Stores full of cells for tests, made without a model and without data."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

import zoo
from pipelines.cells import inventory
from pipelines.cells.cell import publish_cell
from pipelines.cells.column import Column
from pipelines.data import evaluation_sets
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.records import PLAIN, Dataset, Decoder, Settings, Shard, cell_schema
from zoo.weights.wanted import Wanted

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"


def dataset(name: str = "photos", shards: int = 2, rows: int = 50) -> Dataset:
    made = (
        Shard(name=f"{i:05d}", uri=f"/{name}/{i:05d}.tar", size=1000, etag=f"{i:x}", rows=rows) for i in range(shards)
    )
    return Dataset(name=name, source=f"/{name}", shards=tuple(made))


def column(
    model: str, settings: Settings = PLAIN, decoder: Decoder = "exact", subset: tuple[int, ...] | None = None
) -> Column:
    """Of the card's weights where their digest is published, else of some that are not."""
    card = zoo.card(model)
    published = card.weights.sha256 if card.weights else None
    file = Wanted(file=f"{model}.pth", sha256=published or "ab" * 32, sources=())
    return Column(card=card, file=file, settings=settings, decoder=decoder, subset=subset)


def rows(
    n: int, right: float, seed: int = 0, errors: Sequence[int] = (), keys: Sequence[str] = (), classes: int = 1000
) -> pa.Table:
    """`n` rows of which a share `right` is right at top-1, the first of the others within top-5; labels go round."""
    chance = np.random.default_rng(seed)
    label = np.arange(n) % classes
    is_right = np.arange(n) < round(right * n)
    shift = np.where(is_right, 0, np.where(np.arange(n) % 3, 1 + chance.integers(0, 3, n), classes // 2))
    top = (label[:, None] + np.arange(10) - shift[:, None] + (shift[:, None] == classes // 2)) % classes
    first = chance.uniform(0.3, 0.98, n).astype(np.float32)
    probs = np.concatenate([first[:, None], np.repeat((1 - first)[:, None] / 12, 9, 1)], 1).astype(np.float32)
    bad = np.isin(np.arange(n), list(errors))

    def where_fine(values: Sequence) -> list:
        return [None if failed else value for value, failed in zip(values, bad, strict=True)]

    return pa.table(
        {
            "index": np.arange(n, dtype=np.int32),
            "key": [*keys, *(f"k{i:05d}" for i in range(len(keys), n))],
            "label": label.astype(np.int32),
            "classes": where_fine(top.tolist()),
            "probs": where_fine(probs.tolist()),
            "label_prob": where_fine(np.where(is_right, first, (1 - first) / 12).tolist()),
            "sq_prob": where_fine((first**2 + (1 - first) ** 2 / 16).tolist()),
            "logsumexp": where_fine([0.0] * n),
            "digest": where_fine(list(range(n))),
            "error": ["cannot identify image" if failed else None for failed in bad],
            "offset": [512 if failed else None for failed in bad],
        },
        schema=cell_schema(10),
    )


def fill(store: str, data: Dataset, of: Column, right: float, definition: str | None = None, **about) -> None:
    """Commit every shard of `data` for the column, and note the dataset."""
    known = evaluation_sets.known_sets().get(definition or "")
    inventory.note(store, data, known or (EvaluationSet(name=definition, title=definition) if definition else None))
    for place, shard in enumerate(data.shards):
        publish_cell(store, data, of, shard, rows(shard.rows or 1, right, seed=place, **about))


def at(settings: Settings = PLAIN, **changed) -> Settings:
    return replace(settings, **changed)


SETS = """Datasets:
- {Name: tiny, Title: Tiny validation, Images: 400, Claims: CLAIMED}
- {Name: tiny-real, Title: Tiny ReaL, Claims: Tiny-ReaL, Of: tiny, Labels: LABELS, Key: '(\\d+)$'}
"""


def fill_judged(folder: Path) -> tuple[str, str]:
    """A store with one complete set on which the cards have claims, and the file that defines it and a relabelled set.

    Of 400 images, 324 right are within 0.05 points of the 80.96 that resnest50d claims; selecsls60 claims far more.
    """
    labels, sets = folder / "labels.json", folder / "sets.yaml"
    labels.write_text(json.dumps([[i % 1000, (i + 1) % 1000] if i % 4 else [] for i in range(400)]))
    claimed = zoo.card("resnest50d").claims[0].dataset
    sets.write_text(SETS.replace("CLAIMED", claimed).replace("LABELS", str(labels)))
    data, keys = dataset("val", shards=1, rows=400), [f"{i + 1:05d}" for i in range(400)]
    for model, right in (("resnest50d", 0.81), ("selecsls60", 0.70)):
        fill(str(folder / "judged"), data, column(model), right, "tiny", keys=keys)
    return str(folder / "judged"), str(sets)
