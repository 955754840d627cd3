"""The second part of the quickstart: from a few labelled digits and an unlabelled pool to a student.

The images are 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn (Alpaydin and Kaynak 1998). Some of
them keep their labels, some are the pool, whose folder holds no labels, and the rest validate.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import yaml

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
"""That of Yalniz et al. 2019 with shorter stages, for small images, and without mirroring, which changes a digit."""
STUDENT_IMAGES = 32000
"""Pre-training on a selection takes longer than supervised training: figure 4 of the paper."""
TEACHER, STUDENT = "cifar_resnet20", "cifar_resnet8"
K = 90
"""Of about 115 images of each class in the pool; with K = 60 the hard ones are left out."""
RunCommand = Callable[[str, Sequence[str]], int]
"""Runs a job, by name, with options; returns its exit code."""


def run_steps(folder: str, labelled: int, seed: int, run_command: RunCommand) -> int:
    """Run everything from images to the leaderboard as commands.

    Args:
        folder: for all outputs; a step that is done there is not repeated.
        labelled: how many images have labels, the same number of each class.
        seed: of the split and of the trainings.
        run_command: runs one job.

    Returns:
        The exit code of the first command that failed, or 0.
    """
    folder = home(folder, labelled, seed)
    write_images(folder, labelled, seed)
    shards = {part: storage.join(folder, "shards", part) for part in PARTS}
    for part, output in shards.items():
        images = storage.join(folder, part)
        labels = [] if part == "pool" else ["--labels", storage.join(images, "labels.csv")]
        pack = ["--images", images, *labels, "--output", output, "--samples-per-shard", "100"]
        if code := run_command("pack_shards", pack):
            return code
    return _train_and_compare(folder, shards, seed, run_command)


def home(folder: str, labelled: int, seed: int) -> str:
    """The subfolder of one configuration: each recipe has its own, so that no store ever holds two teachers."""
    return storage.join(folder, short_digest([RECIPE, STUDENT_IMAGES, K, labelled, seed]))


def _train_and_compare(folder: str, shards: dict[str, str], seed: int, run_command: RunCommand) -> int:
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
        ("evaluate", lambda: ["--models", _trained_models(store), "--data", shards["val"], "--store", store]),
        (
            "leaderboard",
            lambda: ["--store", store, "--output", storage.join(folder, "board"), "--models", _trained_models(store)],
        ),
    ]
    return next((code for job, options in steps if (code := run_command(job, options()))), 0)


def member(store: str, name: str) -> str:
    """The name of the model trained as `name`, which ends with its identity."""
    return next(card.name for card in members.cards(store) if card.name.rpartition("-")[0] == name)


def _trained_models(store: str) -> str:
    return ",".join(member(store, name) for name in ("teacher", "baseline", "student"))


def write_images(folder: str, labelled: int, seed: int) -> None:
    """Write the images as PNG into the subfolders labelled, pool and val, with labels.csv in the first and the last."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    for part, indices in _split(digits.target, labelled, seed).items():
        for index in indices:
            _write_once(storage.join(folder, part, f"{index:04d}.png"), _png(digits.images[index]))
        if part != "pool":
            lines = [f"{index:04d},{digits.target[index]}\n" for index in indices]
            _write_once(storage.join(folder, part, "labels.csv"), "".join(["key,label\n", *lines]).encode())
    _write_once(storage.join(folder, "recipe.yaml"), yaml.safe_dump(RECIPE, sort_keys=False).encode())


def _split(labels: np.ndarray, labelled: int, seed: int) -> dict[str, list[int]]:
    """Indices of the images of each part."""
    indices = np.random.default_rng(seed).permutation(len(labels))
    rest = indices[VALIDATION:]
    chosen = {int(index) for c in range(CLASSES) for index in rest[labels[rest] == c][: labelled // CLASSES]}
    return {
        "labelled": sorted(chosen),
        "pool": sorted(set(rest.tolist()) - chosen),
        "val": sorted(indices[:VALIDATION].tolist()),
    }


def _png(grey: np.ndarray) -> bytes:
    from matplotlib import image  # not needed for --help

    buffer = io.BytesIO()
    image.imsave(buffer, grey, cmap="gray", vmin=0, vmax=16, format="png")
    return buffer.getvalue()


def _write_once(uri: str, content: bytes) -> None:
    if not storage.exists(uri):
        storage.replace(uri, content)
