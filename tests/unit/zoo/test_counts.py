"""What the zoo counts is what the cards say and what others count."""

import pytest
import torch
from torch import nn

from zoo import counts
from zoo.architectures.table import find_architecture

# As other tools count convolutions and classifier at 224 x 224, in millions.
SQUARE_MACS = {"selecsls42b": 2971.924480, "ssl_resnext50_32x4d": 4230.479872, "sknet50": 4462.710784}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return find_architecture(name).build(1000)


@pytest.mark.parametrize("name", sorted(SQUARE_MACS))
def test_macs_are_those_of_other_tools_at_the_square_size(name: str):
    assert counts.macs(on_meta(name), 224) == round(SQUARE_MACS[name] * 1e6)


def test_resnests_macs_and_biases_together_are_what_other_tools_count():
    model = on_meta("resnest50d")
    biases = sum(c.bias.numel() for c in model.modules() if isinstance(c, nn.Conv2d) and c.bias is not None)
    assert counts.macs(model, 224) + biases == 5_371_170_016


def test_counting_leaves_no_hook_and_the_mode_as_it_was():
    model = on_meta("resnest14d")
    assert model.training
    counts.macs(model, 224)
    assert model.training
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_convolution_counts_its_kernel_for_each_output():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    assert counts.macs(model, 4) == 8 * 16 * 27 + 8 * 5
    # 4 x 5 pixels: the convolution with its bias, and the global pool of 20 pixels and a division for 8 channels.
    assert counts.published_flops(model, 4) == 8 * 20 * 28 + 8 * 21


def test_the_bytes_of_a_state_dict_count_buffers_too():
    model = nn.BatchNorm2d(4)
    assert counts.tensor_bytes(model) == (4 * 4 * 4 + 8, 5)
