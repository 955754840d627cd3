"""EfficientNet-Lite0 computes what its published checkpoint says, held against a plain functional reading of it."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.architectures.efficientnet_lite import from_published
from zoo.weights import cache, load, wanted

# (stride, residual) of the sixteen blocks: all that the published tensors do not say themselves.
BLOCKS = [
    *[(1, False), (2, False), (1, True), (2, False), (1, True), (2, False), (1, True), (1, True)],
    *[(1, False), (1, True), (1, True), (2, False), (1, True), (1, True), (1, True), (1, False)],
]


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    card = zoo.card("efficientnet_lite0")
    assert card.weights is not None
    return load.load_state(load.read_verified(cache.obtain(wanted.published(card)), card.weights.sha256))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return zoo.create("efficientnet_lite0", weights="card")


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """The "SAME" rule from its definition: just enough padding for ceil(size / stride) windows, the odd pixel last."""
    padding = []
    for size in (x.shape[3], x.shape[2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


def layer(state: dict[str, Tensor], x: Tensor, conv: str, norm: str, stride: int = 1, act: bool = True) -> Tensor:
    weight = state[f"{conv}.weight"]
    x = F.conv2d(same(x, weight.shape[2], stride), weight, stride=stride, groups=x.shape[1] // weight.shape[1])
    mean, var, scale, bias = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-3) * scale[:, None, None] + bias[:, None, None]
    return x.clamp(0, 6) if act else x


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    x = layer(state, x, "_conv_stem", "_bn0", stride=2)
    for index, (stride, residual) in enumerate(BLOCKS):
        block, start = f"_blocks.{index}.", x
        if index > 0:
            x = layer(state, x, f"{block}_expand_conv", f"{block}_bn0")
        x = layer(state, x, f"{block}_depthwise_conv", f"{block}_bn1", stride)
        x = layer(state, x, f"{block}_project_conv", f"{block}_bn2", act=False)
        x = x + start if residual else x
    x = layer(state, x, "_conv_head", "_bn1")
    return x.mean(dim=(2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]


def pictures(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@pytest.mark.parametrize(("height", "width"), [(224, 224), (192, 256), (193, 193), (65, 98), (33, 31), (1, 1)])
@torch.inference_mode()
def test_logits_equal_a_plain_reading_of_the_published_tensors(model, published, height: int, width: int):
    x = pictures(height, width)
    expected = reference({key: value.double() for key, value in published.items()}, x.double())
    torch.testing.assert_close(model(x).double(), expected, rtol=0, atol=1e-4 * float(expected.std()))


def test_the_key_map_is_one_to_one_and_leaves_nothing_over(model: nn.Module, published: dict[str, Tensor]):
    ours = from_published(published)
    assert len(ours) == len(published)
    assert ours.keys() == model.state_dict().keys()


def test_the_key_map_keeps_our_own_keys(model: nn.Module):
    assert from_published(model.state_dict()).keys() == model.state_dict().keys()


def test_a_strange_key_is_refused_by_name(published: dict[str, Tensor]):
    state = from_published(published | {"_blocks.16._expand_conv.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"1 extra: _blocks\.16\._expand_conv\.weight"):
        load.load_strict(zoo.create("efficientnet_lite0"), state)


def test_the_bare_architecture_trains_and_the_loaded_one_evaluates(model: nn.Module):
    assert zoo.create("efficientnet_lite0").training
    assert not model.training


def test_a_fresh_model_keeps_the_scale_of_its_input_and_has_gradients_everywhere():
    torch.manual_seed(0)
    model = zoo.create("efficientnet_lite0", num_classes=7)
    logits = model(pictures(64, 64))
    assert logits.shape == (2, 7)
    assert 1e-3 < float(logits.detach().std()) < 10
    F.cross_entropy(logits, torch.tensor([0, 6])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@torch.inference_mode()
def test_channels_last_gives_the_same_logits(model: nn.Module):
    x = pictures(96, 96)
    turned = zoo.create("efficientnet_lite0", weights="card").to(memory_format=torch.channels_last)
    torch.testing.assert_close(turned(x.to(memory_format=torch.channels_last)), model(x), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_bfloat16_autocast_stays_near_float32(model: nn.Module):
    x = pictures(96, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
    assert logits.dtype == torch.bfloat16
    assert float((logits.float() - model(x)).abs().max()) < 0.2 * float(model(x).std())


@torch.inference_mode()
def test_it_compiles_without_a_graph_break_for_even_and_odd_sizes(model: nn.Module):
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    for size in (64, 65):
        torch.testing.assert_close(compiled(pictures(size, size)), model(pictures(size, size)))


@pytest.mark.acceptance
@torch.inference_mode()
def test_real_images_get_the_published_models_class_and_probability(model: nn.Module, sample_images: Path):
    with (sample_images / "efficientnet_lite0.csv").open() as file:
        rows = list(csv.DictReader(file))[::25]
    x = torch.stack([prepared(sample_images / "images" / f"{row['key']}.JPEG") for row in rows])
    top = model(x).softmax(1).max(1)
    assert top.indices.tolist() == [int(row["class0"]) for row in rows]
    assert top.values.tolist() == pytest.approx([float(row["prob0"]) for row in rows], abs=1e-3)


def prepared(path: Path) -> Tensor:
    """As torchvision does it: short side to 256, bicubic, the central 224, mean 127/255, std 128/255."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    image = image.resize((256 * image.width // short, 256 * image.height // short), Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)
