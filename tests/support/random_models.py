"""Models of the zoo with random weights, by a user's cards: for whatever does not depend on what a model has learnt."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
import yaml

import zoo

PREFIX = "random_"


def put_cards(folder: Path, names: Iterable[str]) -> Path:
    """A model-index with a `random_NAME` for each of the zoo's models `names`, its weights beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [_entry(zoo.card(name), _put_weights(folder, name)) for name in names]
    path = folder / "cards.yaml"
    path.write_text(yaml.safe_dump({"Models": entries}))
    return path


def _put_weights(folder: Path, name: str) -> Path:
    torch.manual_seed(len(name))
    path = folder / "weights.pth"
    torch.save(zoo.create(name).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(folder / f"{name}-{digest[:8]}.pth")


def _entry(card: zoo.Card, weights: Path) -> dict[str, object]:
    pre = card.preprocessing
    facts = {
        "ID": card.name,
        "Image Size": pre.size,
        "Crop Pct": pre.crop_pct,
        "Interpolation": pre.interpolation,
        "Mean": list(pre.mean),
        "Std": list(pre.std),
        "Channels": pre.channels,
        "License": "none",
    }
    return {"Name": PREFIX + card.name, "Metadata": facts, "Weights": str(weights)}
