"""Reference networks: weights filled by a rule that any implementation can follow, see tests/golden/README.md."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.paths import GOLDEN
from zoo.architectures.table import find_architecture


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference logits and of the published checkpoints' keys."""
    return GOLDEN


@pytest.fixture(scope="session")
def filled() -> Callable[..., nn.Module]:
    """Builds an architecture of ours in evaluation mode, every tensor a function of its name and shape."""

    def build(name: str) -> nn.Module:
        model = find_architecture(name).build(1000)
        model.load_state_dict({key: by_rule(key, tuple(value.shape)) for key, value in model.state_dict().items()})
        return model.eval()

    return build


@pytest.fixture(scope="session")
def caffe_blobs() -> Callable[[str], dict[str, Tensor]]:
    """The authors' network of that name as blobs `LAYER/INDEX`, filled by the rule."""

    def blobs(name: str) -> dict[str, Tensor]:
        layers = json.loads((GOLDEN / f"{name}.blobs.json").read_text())
        return {
            f"{layer}/{index}": by_rule(f"{layer}/{index}", tuple(shape), blob_kind(layer, index))
            for layer, shapes in layers.items()
            for index, shape in enumerate(shapes)
        }

    return blobs


@pytest.fixture(scope="session")
def noise() -> Callable[[int], Tensor]:
    """Two normalised images of noise, `size` pixels a side."""

    def make(size: int) -> Tensor:
        return torch.from_numpy(np.random.RandomState(size).standard_normal((2, 3, size, size)).astype("float32"))

    return make


def blob_kind(layer: str, index: int) -> str:
    if layer.endswith("/bn"):
        return ("scale", "bias", "running_mean", "running_var")[index]
    return ("weight", "bias")[index]


def by_rule(name: str, shape: tuple[int, ...], kind: str = "") -> Tensor:
    """The rule of tests/golden/README.md; `kind` where the name does not say it."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    z = random.standard_normal(math.prod(shape)).reshape(shape)
    kind = kind or name.rpartition(".")[2]
    if kind in {"running_mean", "bias"}:
        value = 0.1 * z
    elif kind == "running_var":
        value = 1 + 0.1 * np.abs(z)
    elif len(shape) == 1:
        value = (1 + 0.1 * z) * (0.2 if name.endswith(("bn3.weight", "increase/bn/0")) else 1)
    else:
        value = z * math.sqrt(2 / math.prod(shape[1:]))
    return torch.from_numpy(value.astype("float32"))
