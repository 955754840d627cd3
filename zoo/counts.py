"""What an architecture costs: parameters, multiply-accumulates, bytes of a checkpoint, all without a weight or a pixel.

Owns two counts of operations. `macs` is honest: multiply-accumulates of convolutions and linear layers at the size that
the model is tested at. `published_flops` is what the timm cards of 2021 say, reproduced to the last digit: a profiler's
sum over an image that is not square and without the classifier. Refuses to compare: `zoo.audit` does.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

_LONG_SIDE = (1546, 1213)
"""The picture that the cards' profiler was run on: its short side was the card's image size, and it was this wide."""


def parameters(model: nn.Module) -> int:
    """The number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())


def tensor_bytes(model: nn.Module) -> tuple[int, int]:
    """Bytes of all entries of the state dict, and how many entries it has."""
    entries = model.state_dict().values()
    return sum(entry.numel() * entry.element_size() for entry in entries), len(entries)


def macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers on a square image of `size` pixels, without biases."""
    return _count(model, (size, size), {nn.Conv2d: _convolution, nn.Linear: _linear})


def published_flops(model: nn.Module, size: int) -> int:
    """The cards' "FLOPs" for a short side of `size` pixels: thop 0.0.31's rules, with the classifier left out.

    Multiply-accumulates and bias of convolutions, two operations an element of a norm, one an output of an average
    pool, one more than the window for a global one.
    """
    rules = {
        nn.Conv2d: _convolution_and_bias,
        nn.BatchNorm2d: lambda _, x, __: 2 * x.numel(),
        nn.AvgPool2d: lambda _, __, out: out.numel(),
        nn.AdaptiveAvgPool2d: lambda _, x, out: out.numel() * (math.prod(x.shape[2:]) + 1),
    }
    return _count(model, (size, size * _LONG_SIDE[0] // _LONG_SIDE[1]), rules)


Rule = Callable[[nn.Module, Tensor, Tensor], int]
"""From a layer, its input and its output to a number of operations."""


def _count(model: nn.Module, size: tuple[int, int], rules: Mapping[type[nn.Module], Rule]) -> int:
    """The sum of `rules` over one image of `size` (height, width); on the meta device nothing is computed."""
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
