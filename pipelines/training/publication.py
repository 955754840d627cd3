"""A finished training -> a member of the zoo: its weights in the store, locked, and its card.

    STORE/weights/NAME-SHA8.safetensors, NAME.lock.json
    STORE/zoo/NAME.yaml

Owns what the card says: recipe, data by digest, teacher, selection, measured metrics. Refuses to publish what is not at
its end, and weights that do not load into their architecture.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from pipelines import storage
from pipelines.models import members, mirror
from pipelines.models.mirror import Lock
from pipelines.selection import lineage
from pipelines.storage.layout import Folder
from pipelines.training import checkpoint, row_counts
from pipelines.training.specification import Stage, Training
from zoo.cards import WeightsFile

_METRICS = {"top1": "Top 1 Accuracy", "top5": "Top 5 Accuracy"}
_TECHNIQUES = {"mixup": "MixUp", "cutmix": "CutMix", "label_smoothing": "Label Smoothing", "ema": "EMA"}
_PAPER = {
    "Title": "Billion-scale semi-supervised learning for image classification",
    "URL": "https://arxiv.org/abs/1905.00546",
}


def with_rows(training: Training) -> Training:
    """The training with the rows of shards that were counted when it began, if it has begun."""
    return replace(training, stages=tuple(row_counts.noted(training.home, stage) or stage for stage in training.stages))


def finished(training: Training) -> dict[str, Any] | None:
    """The content of a training's last checkpoint, if it is at its end."""
    last = len(training.stages) - 1
    found = checkpoint.newest(training.home)
    end = last, training.stages[last].steps, 1
    is_over = found.saved and (found.saved.stage, found.saved.step, found.saved.told) == end
    return found.content if is_over else None


def publish_member(store: str, training: Training, identity: str, content: Mapping[str, Any]) -> Lock:
    """Make a finished training a member of the zoo; the same again changes nothing.

    Args:
        store: where to.
        training: what was trained.
        identity: of the training.
        content: of its last checkpoint.

    Raises:
        ValueError: if other weights of this name are locked.
    """
    data = save({name: value.contiguous() for name, value in _weights(content).items()})
    digest = hashlib.sha256(data).hexdigest()
    file = f"{training.card.name.replace(':', '_')}-{digest[:8]}.safetensors"
    place = storage.join(storage.absolute(store), Folder.WEIGHTS, file)
    card = replace(training.card, weights=WeightsFile(location=place, sha256=digest, license=None))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.write_bytes(data)
        lock = mirror.mirror(store, card, str(path))
    storage.replace(members.uri(store, card.name), _document(training, identity, content, place, digest))
    return lock


def _weights(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    learner = content["learner"]
    return learner["network"] | (learner["average"] or {})


def _document(training: Training, identity: str, content: Mapping[str, Any], place: str, digest: str) -> bytes:
    card, origin = training.card, lineage.origin(training.stages[0].dataset)
    seen = card.preprocessing
    facts: dict[str, Any] = {
        "ID": card.architecture,
        "Parameters": card.params,
        "Image Size": seen.size,
        "Crop Pct": seen.crop_pct,
        "Interpolation": seen.interpolation,
        "Mean": list(seen.mean),
        "Std": list(seen.std),
        "Channels": seen.channels,
        "Classes": card.num_classes,
        "SHA-256": digest,
        "Training Techniques": ["SGD with Momentum", "Weight Decay", *_techniques(training.stages)],
        members.IDENTITY: identity,
        "Seed": training.seed,
        "Precision": training.precision,
    }
    if origin:
        facts |= {members.TEACHER: origin.teacher, members.SELECTION: origin.selection}
    for stage in training.stages:
        facts |= _stage_facts(stage)
    last = content["curve"][-1]
    validated = last["metrics"]
    results = {
        "Task": "Image Classification",
        "Dataset": last["validation"],
        "Metrics": {title: f"{validated[name]:.3f}%" for name, title in _METRICS.items() if name in validated},
    }
    entry = {
        "Name": card.name,
        **({"Paper": _PAPER} if origin else {}),
        "Metadata": facts,
        "Weights": place,
        "Results": [results],
    }
    return yaml.safe_dump({"Models": [entry]}, sort_keys=False, allow_unicode=True, width=120).encode()


def _stage_facts(stage: Stage) -> dict[str, Any]:
    title, dataset = stage.name.capitalize(), stage.dataset
    return {
        f"{title} Data": f"{dataset.name}-{dataset.digest}, {sum(stage.rows):,} samples",
        f"{title} Recipe": json.dumps(asdict(stage.recipe)),
    }


def _techniques(stages: tuple[Stage, ...]) -> list[str]:
    return [title for name, title in _TECHNIQUES.items() if any(getattr(stage.recipe, name) for stage in stages)]
