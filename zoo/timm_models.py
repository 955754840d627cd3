"""Any model of timm's, as `timm:NAME`, where timm is installed (`pip install 'menagerie[timm]'`).

Owns the way from timm's registry to our cards: the pretrained configuration is the card, and timm's own code builds the
architecture. Refuses what our walk would do otherwise than timm: another crop than the central one, weights that timm
converts while it loads them.
"""

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any

from zoo.architectures import TIMM, Architecture
from zoo.cards import Card, WeightsFile
from zoo.preprocessing import Preprocessing
from zoo.weights import digest_in

if TYPE_CHECKING:
    from torch import nn

_HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"


def card(name: str) -> Card:
    """The card of `timm:NAME`.

    The test size and crop are the configuration's own, as timm's validation uses them.

    Raises:
        ValueError: if timm is not installed, has no such model, or tests it in a way that we do not.
    """
    config = _config(name)
    return Card(
        name=name,
        architecture=name,
        preprocessing=_preprocessing(name, config),
        weights=_weights(name, config),
        claims=(),
        paper=", ".join(_listed(config.get("paper_ids"))),
        code=config.get("origin_url"),
        num_classes=int(config["num_classes"]),
        facts=tuple((key, str(config[key])) for key in ("architecture", "tag") if config.get(key)),
    )


@functools.cache
def architecture(name: str) -> Architecture:
    """The architecture of `timm:NAME`; its parameters are counted on a build without weights.

    Raises:
        ValueError: if timm is not installed or has no such model.
    """
    import torch

    from zoo import counts

    config = _config(name)
    with torch.device("meta"):
        model = build(name.removeprefix(TIMM), num_classes=1000)
    return Architecture(
        builder="zoo.timm_models:build",
        arguments=(name.removeprefix(TIMM),),
        params=counts.parameters(model),
        features=int(getattr(model, "head_hidden_size", None) or model.num_features),  # pyright: ignore
        classifier=str(config["classifier"]),
    )


def build(name: str, num_classes: int) -> "nn.Module":
    """Timm's own architecture `name`, randomly initialised."""
    return _timm().create_model(name, pretrained=False, num_classes=num_classes)


def _config(name: str) -> dict[str, Any]:
    timm, known = _timm(), name.removeprefix(TIMM)
    config = None
    # An unknown tag is a RuntimeError of timm's.
    with contextlib.suppress(RuntimeError):
        config = timm.models.get_pretrained_cfg(known) if timm.is_model(known.partition(".")[0]) else None
    if config is None:
        raise ValueError(f"timm has no model {known!r}; `timm.list_pretrained()` lists them")
    found = config.to_dict()
    if found["num_classes"] < 1 or not isinstance(found["classifier"], str):
        raise ValueError(f"{name}: expected a model with one classifier, timm's has {found['num_classes']} classes")
    return found


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError(f"models named {TIMM}NAME need timm: pip install 'menagerie[timm]' ({error})") from error


def _preprocessing(name: str, config: dict[str, Any]) -> Preprocessing:
    if (mode := config.get("crop_mode") or "center") != "center":
        raise ValueError(f"{name}: timm tests it with the crop mode {mode!r}; only 'center' is done here")
    _, height, width = config.get("test_input_size") or config["input_size"]
    if height != width:
        raise ValueError(f"{name}: timm tests it at {height} x {width}; only squares are done here")
    return Preprocessing(
        size=height,
        crop_pct=config.get("test_crop_pct") or config["crop_pct"],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _weights(name: str, config: dict[str, Any]) -> WeightsFile | None:
    hub, url = config.get("hf_hub_id"), config.get("url")
    if config.get("custom_load") and not hub:
        raise ValueError(f"{name}: timm converts its weights while it loads them, which is not done here")
    # A file whose name holds its digest can be verified at once; the hub's is verified from its first mirroring on.
    digest = digest_in(url) if url and not config.get("custom_load") else None
    location = url if digest else _HUB.format(hub) if hub else url
    return WeightsFile(location=location, sha256=digest, license=config.get("license")) if location else None


def _listed(value: object) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)  # pyright: ignore
