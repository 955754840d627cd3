"""The quickstart's second half: from a few labels and a pool without any to a student, on handwritten digits.

The pictures are real: 1,797 digits of 8 x 8 pixels that ship with scikit-learn (Alpaydin and Kaynak 1998). Owns which
of them have labels, which are the pool and which validate, and the commands in their order. Refuses to let the pool's
labels out: its folder has none.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import yaml
from matplotlib import image

from pipelines import storage
from pipelines.models import members
from pipelines.records import short_digest

CLASSES, VALIDATION = 10, 600
PARTS = ("labelled", "pool", "val")
RECIPE = {
    "size": 12,
    "pre": {
        **{"images": 16000, "batch": 64, "lr_per_256": 0.4, "drops": 5, "mixup": 0.2},
        **{"flip": 0.0, "crop_scale": [0.6, 1.0]},
    },
    "fine": {"epochs": 30, "batch": 64, "lr_per_256": 0.01, "flip": 0.0, "crop_scale": [0.6, 1.0]},
}
"""The paper's, with shorter stages, for small pictures of which left and right mean something."""
STUDENT_IMAGES = 32000
"""Pre-training takes longer than supervised training: the paper's figure 4."""
TEACHER, STUDENT = "cifar_resnet20", "cifar_resnet8"
K = 90
"""Of about 115 pictures of each class in the pool; with K = 60 the hard ones are left out."""
Run = Callable[[str, Sequence[str]], int]
"""Runs a job by its name with options; returns its exit code."""


def story(folder: str, labelled: int, seed: int, run: Run) -> int:
    """Everything from pictures to the leaderboard, as commands; returns the code of the first that does not succeed.

    Args:
        folder: where everything goes; what is done there is not done again.
        labelled: how many pictures have labels, as many of each class.
        seed: of the split and of the trainings.
        run: runs a command.
    """
    folder = home(folder, labelled, seed)
    put(folder, labelled, seed)
    shards = {part: storage.join(folder, "shards", part) for part in PARTS}
    for part, output in shards.items():
        pictures = storage.join(folder, part)
        labels = [] if part == "pool" else ["--labels", storage.join(pictures, "labels.csv")]
        pack = ["--images", pictures, *labels, "--output", output, "--samples-per-shard", "100"]
        if code := run("pack_shards", pack):
            return code
    return _taught(folder, shards, seed, run)


def home(folder: str, labelled: int, seed: int) -> str:
    """Where a story lies: another recipe has another place, so that no store ever holds two teachers."""
    return storage.join(folder, short_digest([RECIPE, STUDENT_IMAGES, K, labelled, seed]))


def _taught(folder: str, shards: dict[str, str], seed: int, run: Run) -> int:
    store, selection, chosen = (storage.join(folder, name) for name in ("store", "selection", "shards/selection"))
    recipe = ["--config", storage.join(folder, "recipe.yaml"), "--seed", str(seed)]
    train = [*recipe, "--val", shards["val"], "--store", store]
    supervised = [*train, "--pretrain", shards["labelled"]]
    student = ["--pretrain", chosen, "--pre.images", str(STUDENT_IMAGES), "--finetune", shards["labelled"]]
    pool = ["--data", shards["pool"], "--store", store, "--classes-per-image", "1"]
    steps: list[tuple[str, Callable[[], list[str]]]] = [
        ("train_student", lambda: ["--name", "teacher", "--model", TEACHER, *supervised]),
        ("train_student", lambda: ["--name", "baseline", "--model", STUDENT, *supervised]),
        ("pseudo_label", lambda: ["--models", member(store, "teacher"), *pool]),
        ("select_topk", lambda: ["--models", member(store, "teacher"), *pool, "--k", str(K), "--output", selection]),
        ("materialize", lambda: ["--selection", selection, "--output", chosen, "--samples-per-shard", "100"]),
        ("train_student", lambda: ["--name", "student", "--model", STUDENT, *train, *student]),
        ("evaluate", lambda: ["--models", _all(store), "--data", shards["val"], "--store", store]),
        ("leaderboard", lambda: ["--store", store, "--output", storage.join(folder, "board"), "--models", _all(store)]),
    ]
    return next((code for job, options in steps if (code := run(job, options()))), 0)


def member(store: str, name: str) -> str:
    """The whole name of the model that was trained as `name`, with the digits of its identity."""
    return next(card.name for card in members.cards(store) if card.name.rpartition("-")[0] == name)


def _all(store: str) -> str:
    return ",".join(member(store, name) for name in ("teacher", "baseline", "student"))


def put(folder: str, labelled: int, seed: int) -> None:
    """The pictures in `folder`, a PNG each in labelled, pool and val; labels.csv in the first and the last."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    for part, some in _split(digits.target, labelled, seed).items():
        for place in some:
            _put(storage.join(folder, part, f"{place:04d}.png"), _png(digits.images[place]))
        if part != "pool":
            lines = [f"{place:04d},{digits.target[place]}\n" for place in some]
            _put(storage.join(folder, part, "labels.csv"), "".join(["key,label\n", *lines]).encode())
    _put(storage.join(folder, "recipe.yaml"), yaml.safe_dump(RECIPE, sort_keys=False).encode())


def _split(labels: np.ndarray, labelled: int, seed: int) -> dict[str, list[int]]:
    """Places of the pictures of each part."""
    places = np.random.default_rng(seed).permutation(len(labels))
    rest = places[VALIDATION:]
    chosen = {int(place) for c in range(CLASSES) for place in rest[labels[rest] == c][: labelled // CLASSES]}
    return {
        "labelled": sorted(chosen),
        "pool": sorted(set(rest.tolist()) - chosen),
        "val": sorted(places[:VALIDATION].tolist()),
    }


def _png(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image.imsave(buffer, grey, cmap="gray", vmin=0, vmax=16, format="png")
    return buffer.getvalue()


def _put(uri: str, content: bytes) -> None:
    if not storage.exists(uri):
        storage.replace(uri, content)
