"""Count an architecture's parameters, multiply-accumulates and checkpoint bytes, without weights or images.

There are two counts of operations. `macs` counts the multiply-accumulates of convolutions and linear layers at the
model's test size. `published_flops` reproduces the "FLOPs" of timm's cards of 2021 to the last digit: a profiler's sum
on an image that is not square, without the classifier. `zoo.audit` compares them with a card's claims.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

_LONG_SIDE = (1546, 1213)
"""Width and height of the image on which the cards' profiler ran, before it was resized to the card's image size."""


def parameters(model: nn.Module) -> int:
    """The number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())


def tensor_bytes(model: nn.Module) -> tuple[int, int]:
    """Total size of the state dict's tensors in bytes, and their number."""
    entries = model.state_dict().values()
    return sum(entry.numel() * entry.element_size() for entry in entries), len(entries)


def macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers on one image of `size` x `size` pixels, without biases."""
    return _count(model, (size, size), {nn.Conv2d: _convolution, nn.Linear: _linear})


def published_flops(model: nn.Module, size: int) -> int:
    """The "FLOPs" of timm's cards for a short side of `size` pixels, by the rules of thop 0.0.31.

    These are the multiply-accumulates and biases of convolutions, two operations per element of a batch norm, one per
    output of an average pool, and the window's elements plus one per output of a global average pool. The classifier is
    not counted.
    """
    rules = {
        nn.Conv2d: _convolution_and_bias,
        nn.BatchNorm2d: lambda _, x, __: 2 * x.numel(),
        nn.AvgPool2d: lambda _, __, out: out.numel(),
        nn.AdaptiveAvgPool2d: lambda _, x, out: out.numel() * (math.prod(x.shape[2:]) + 1),
    }
    return _count(model, (size, size * _LONG_SIDE[0] // _LONG_SIDE[1]), rules)


Count = Callable[[nn.Module, Tensor, Tensor], int]
"""Maps a layer, its input and its output to a number of operations."""


def _count(model: nn.Module, size: tuple[int, int], rules: Mapping[type[nn.Module], Count]) -> int:
    """The sum of `rules` over all layers for one image of `size` (height, width); the meta device computes nothing."""
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        total += rules[next(kind for kind in rules if isinstance(layer, kind))](layer, inputs[0], out)

    hooks = [layer.register_forward_hook(add) for layer in model.modules() if isinstance(layer, tuple(rules))]
    training = model.training
    try:
        model.eval()(torch.empty(1, 3, *size, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total


def _convolution(layer: nn.Module, _: Tensor, out: Tensor) -> int:
    assert isinstance(layer, nn.Conv2d)
    return out.numel() * layer.weight[0].numel()


def _convolution_and_bias(layer: nn.Module, x: Tensor, out: Tensor) -> int:
    return _convolution(layer, x, out) + (out.numel() if layer.bias is not None else 0)


def _linear(layer: nn.Module, _: Tensor, out: Tensor) -> int:
    assert isinstance(layer, nn.Linear)
    return out.numel() * layer.in_features
