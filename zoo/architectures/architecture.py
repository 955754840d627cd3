"""An architecture: which code builds a network, and how many parameters it has.

Imports no torch: a builder is a name here, resolved when a model is made.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TIMM = "timm:"
"""What a name begins with that is one of timm's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network without weights.

    `builder` names a function `module:function`, called as `function(*arguments, num_classes=...)`; `key_map` one of
    the form `dict -> dict`, which renames a published checkpoint's keys to ours and keeps ours. `params` counts
    trainable values with 1000 classes; `classifier` names the last layer, which has `features` inputs.
    """

    builder: str
    params: int
    features: int
    key_map: str | None = None
    classifier: str = "fc"
    arguments: tuple[str, ...] = ()

    def params_with(self, num_classes: int) -> int:
        """Trainable values where the classifier has `num_classes` outputs, each with a bias."""
        return self.params + (num_classes - 1000) * (self.features + 1)

    def build(self, num_classes: int) -> Any:
        """The randomly initialised network, an `nn.Module` in training mode."""
        return _resolve(self.builder)(*self.arguments, num_classes=num_classes)

    def rename(self, state: dict[str, Any]) -> dict[str, Any]:
        """A checkpoint's tensors under our keys."""
        return _resolve(self.key_map)(state) if self.key_map else state


def _resolve(reference: str) -> Callable[..., Any]:
    module, _, function = reference.partition(":")
    return getattr(importlib.import_module(module), function)
