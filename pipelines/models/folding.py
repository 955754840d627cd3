"""Batch norms folded into the convolutions before them: the same function of the input with fewer steps.

Pairs are found by running one image, not from the order of modules: a norm is folded only if its input is the output of
the convolution, nothing else uses that output, and each of the two runs once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode


def fold(network: nn.Module, size: int) -> int:
    """Fold the batch norms of `network` that can be folded, in place; it must be in evaluation mode.

    Args:
        network: maps images (B, 3, H, W) to logits.
        size: height and width of its images, in pixels.

    Returns:
        The number of folded norms.
    """
    assert not network.training, "a norm in training mode follows its batch"
    watch = _Watch(network)
    with torch.inference_mode(), watch:
        network(torch.zeros(1, 3, size, size))
    pairs = watch.pairs()
    for conv, name in pairs:
        norm = network.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        network.set_submodule(name, nn.Identity())
    return len(pairs)


class _Watch(TorchFunctionMode):
    """Records which norm uses the output of which convolution, and how often each runs or is used."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # By the tensors that enter the computation: a subclass may make its weights anew each time.
        self._convs = {id(module.weight): module for module in network.modules() if isinstance(module, nn.Conv2d)}
        # Not of a subclass: whatever else that does would be lost.
        named = [(name, module) for name, module in network.named_modules() if type(module) is nn.BatchNorm2d]
        self._norms = {id(norm.running_mean): name for name, norm in named if norm.running_mean is not None}
        self._wrote: dict[int, tuple[Tensor, nn.Conv2d]] = {}
        self._read: list[tuple[int, str]] = []
        self._uses: Counter[int] = Counter()
        self._runs: Counter[int] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if _tensors([out]):  # a query for a shape does not use the content
            given = map(id, _tensors([*args, *(kwargs or {}).values()]))
            self._uses.update(tensor for tensor in given if tensor in self._wrote)
        if func is torch.conv2d and id(args[1]) in self._convs:
            self._wrote[id(out)] = (out, self._convs[id(args[1])])  # kept alive, so that no other tensor gets its id
            self._runs[id(args[1])] += 1
        if func is F.batch_norm and id(args[1]) in self._norms:
            self._read.append((id(args[0]), self._norms[id(args[1])]))
        return out

    def pairs(self) -> list[tuple[nn.Conv2d, str]]:
        """Convolutions, each with the name of the norm to fold into it."""
        once = Counter(name for _, name in self._read)
        return [
            (self._wrote[tensor][1], name)
            for tensor, name in self._read
            if tensor in self._wrote
            and once[name] == self._uses[tensor] == self._runs[id(self._wrote[tensor][1].weight)] == 1
        ]


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among `values` and in lists among them."""
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [item for item in flat if isinstance(item, Tensor)]
