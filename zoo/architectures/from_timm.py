"""The architectures of timm, named `timm:NAME`; they need timm installed (`pip install 'menagerie[timm]'`)."""

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any

from zoo.architectures.architecture import TIMM, Architecture

if TYPE_CHECKING:
    from torch import nn


@functools.cache
def architecture(name: str) -> Architecture:
    """The architecture of `timm:NAME`; its parameters are counted on a network built without weights.

    Raises:
        ValueError: If timm is not installed or has no such model.
    """
    import torch

    from zoo import counts

    config = config_of(name)
    with torch.device("meta"):
        model = build(name.removeprefix(TIMM), num_classes=1000)
    return Architecture(
        builder="zoo.architectures.from_timm:build",
        arguments=(name.removeprefix(TIMM),),
        params=counts.parameters(model),
        features=int(getattr(model, "head_hidden_size", None) or model.num_features),  # pyright: ignore
        classifier=str(config["classifier"]),
    )


def build(name: str, num_classes: int) -> "nn.Module":
    """Build timm's model `name` (without the prefix), randomly initialised."""
    return _timm().create_model(name, pretrained=False, num_classes=num_classes)


def config_of(name: str) -> dict[str, Any]:
    """The pretrained configuration of `timm:NAME` as a dict with timm's keys.

    Raises:
        ValueError: If timm is not installed, has no such model, or the model does not have exactly one classifier.
    """
    timm, known = _timm(), name.removeprefix(TIMM)
    config = None
    with contextlib.suppress(RuntimeError):  # timm raises it for an unknown tag
        config = timm.models.get_pretrained_cfg(known) if timm.is_model(known.partition(".")[0]) else None
    if config is None:
        raise ValueError(f"timm has no model {known!r}; `timm.list_pretrained()` lists them")
    found = config.to_dict()
    if found["num_classes"] < 1 or not isinstance(found["classifier"], str):
        classifier, classes = found["classifier"], found["num_classes"]
        raise ValueError(f"{name}: expected a model with one classifier, found {classifier!r} with {classes} classes")
    return found


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError(f"models named {TIMM}NAME need timm: pip install 'menagerie[timm]' ({error})") from error
