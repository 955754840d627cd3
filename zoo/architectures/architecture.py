"""An architecture: the code that builds a network, and its number of parameters.

Builders are references `module:function`, resolved when a model is built, so that this module does not import torch.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TIMM = "timm:"
"""Prefix of the names of timm's models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network without weights.

    Attributes:
        builder: Reference `module:function`; called as `function(*arguments, num_classes=...)`.
        params: Number of trainable values with 1000 classes.
        features: Number of inputs of the classifier.
        key_map: Reference to a function that renames the keys of a published checkpoint (a dict) to the network's and
            leaves the network's own keys unchanged.
        classifier: Name of the last layer, a linear one with a bias.
        arguments: Positional arguments of the builder.
    """

    builder: str
    params: int
    features: int
    key_map: str | None = None
    classifier: str = "fc"
    arguments: tuple[str, ...] = ()

    def params_with(self, num_classes: int) -> int:
        """Number of trainable values with `num_classes` classes."""
        return self.params + (num_classes - 1000) * (self.features + 1)

    def build(self, num_classes: int) -> Any:
        """Build the network with random weights: an `nn.Module` in training mode."""
        return _resolve(self.builder)(*self.arguments, num_classes=num_classes)

    def rename(self, state: dict[str, Any]) -> dict[str, Any]:
        """The tensors of a checkpoint under the network's keys."""
        return _resolve(self.key_map)(state) if self.key_map else state


def _resolve(reference: str) -> Callable[..., Any]:
    module, _, function = reference.partition(":")
    return getattr(importlib.import_module(module), function)
