"""Publishes a finished training as a member of the zoo: its weights, their lock, and its card.

    STORE/weights/NAME-SHA8.safetensors, NAME.lock.json
    STORE/zoo/NAME.yaml

The card states the recipe, the data by digest, the teacher, the selection and the measured metrics. Weights that do not
load into their architecture are never published, nor is a training before its end.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save

from pipelines import storage
from pipelines.models import members, mirror
from pipelines.models.mirror import Lock
from pipelines.selection import lineage
from pipelines.storage.layout import Folder
from pipelines.training import checkpoint, row_counts
from pipelines.training.checkpoint import CheckpointContent
from pipelines.training.progress import Position
from pipelines.training.specification import Stage, Training
from zoo.cards import WeightsFile

_METRICS = {"top1": "Top 1 Accuracy", "top5": "Top 5 Accuracy"}
_TECHNIQUES = {"mixup": "MixUp", "cutmix": "CutMix", "label_smoothing": "Label Smoothing", "ema": "EMA"}
_PAPER = {
    "Title": "Billion-scale semi-supervised learning for image classification",
    "URL": "https://arxiv.org/abs/1905.00546",
}


def with_rows(training: Training) -> Training:
    """The training with the rows of its shards, as far as they were counted when it began."""
    stages = tuple(row_counts.with_known_rows(training.home, stage) or stage for stage in training.stages)
    return replace(training, stages=stages)


def final_content(training: Training) -> CheckpointContent | None:
    """The content of a training's last checkpoint; None if the training is not at its end."""
    end = Position(len(training.stages) - 1, training.stages[-1].steps)
    resumed = checkpoint.newest(training.home)
    is_at_end = resumed.saved and resumed.saved.complete and resumed.saved.position == end
    return resumed.content if is_at_end else None


def publish_member(store: str, training: Training, identity: str, content: CheckpointContent) -> Lock:
    """Make a finished training a member of the zoo; publishing it again changes nothing.

    Args:
        store: folder or URI in which it becomes a member.
        training: with the rows of its shards.
        identity: of the training, see `specification.training_id`.
        content: of its last checkpoint.

    Raises:
        ValueError: if different weights are locked under this name.
    """
    data = save({name: value.contiguous() for name, value in content.learner.weights.items()})
    digest = hashlib.sha256(data).hexdigest()
    file = f"{training.card.name.replace(':', '_')}-{digest[:8]}.safetensors"
    uri = storage.join(storage.absolute(store), Folder.WEIGHTS, file)
    card = replace(training.card, weights=WeightsFile(location=uri, sha256=digest, license=None))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.write_bytes(data)
        lock = mirror.mirror(store, card, str(path))
    storage.replace(members.uri(store, card.name), _card_yaml(training, identity, content, uri, digest))
    return lock


def _card_yaml(training: Training, identity: str, content: CheckpointContent, uri: str, digest: str) -> bytes:
    card, origin = training.card, lineage.origin(training.stages[0].dataset)
    preprocessing = card.preprocessing
    facts: dict[str, Any] = {
        "ID": card.architecture,
        "Parameters": card.params,
        "Image Size": preprocessing.size,
        "Crop Pct": preprocessing.crop_pct,
        "Interpolation": preprocessing.interpolation,
        "Mean": list(preprocessing.mean),
        "Std": list(preprocessing.std),
        "Channels": preprocessing.channels,
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
    last = content.curve[-1]
    validated = last.metrics or {}
    results = {
        "Task": "Image Classification",
        "Dataset": last.validation,
        "Metrics": {title: f"{validated[name]:.3f}%" for name, title in _METRICS.items() if name in validated},
    }
    entry = {
        "Name": card.name,
        **({"Paper": _PAPER} if origin else {}),
        "Metadata": facts,
        "Weights": uri,
        "Results": [results],
    }
    return yaml.safe_dump({"Models": [entry]}, sort_keys=False, allow_unicode=True, width=120).encode()


def _stage_facts(stage: Stage) -> dict[str, str]:
    title, dataset = stage.name.capitalize(), stage.dataset
    return {
        f"{title} Data": f"{dataset.name}-{dataset.digest}, {sum(stage.rows):,} samples",
        f"{title} Recipe": json.dumps(asdict(stage.recipe)),
    }


def _techniques(stages: tuple[Stage, ...]) -> list[str]:
    return [title for name, title in _TECHNIQUES.items() if any(getattr(stage.recipe, name) for stage in stages)]
