"""Cards of timm's models, made from timm's pretrained configurations.

A model that cannot be evaluated here as timm does is an error: one with a crop other than the central square, or with
weights that timm converts while it loads them.
"""

from typing import Any

from zoo.architectures.from_timm import config_of
from zoo.cards import Card, WeightsFile
from zoo.cards.digests import digest_in
from zoo.preprocessing import Preprocessing

_HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"


def card(name: str) -> Card:
    """The card of `timm:NAME`.

    Size and crop are those of timm's validation: the configuration's test size and test crop where it has them.

    Raises:
        ValueError: If timm is not installed, has no such model, or evaluates it in a way that is not supported here.
    """
    config = config_of(name)
    return Card(
        name=name,
        architecture=name,
        preprocessing=_preprocessing(name, config),
        weights=_weights(name, config),
        claims=(),
        paper=", ".join(_as_list(config.get("paper_ids"))),
        code=config.get("origin_url"),
        num_classes=int(config["num_classes"]),
        facts=tuple((key, str(config[key])) for key in ("architecture", "tag") if config.get(key)),
    )


def _preprocessing(name: str, config: dict[str, Any]) -> Preprocessing:
    if (mode := config.get("crop_mode") or "center") != "center":
        raise ValueError(f"{name}: timm tests it with the crop mode {mode!r}; only 'center' is supported")
    _, height, width = config.get("test_input_size") or config["input_size"]
    if height != width:
        raise ValueError(f"{name}: timm tests it at {height} x {width}; only squares are supported")
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
        raise ValueError(f"{name}: timm converts its weights while it loads them, which is not supported")
    # A file with its digest in its name can be verified now; the hub's files once a mirror has recorded their digest.
    digest = digest_in(url) if url and not config.get("custom_load") else None
    location = url if digest else _HUB.format(hub) if hub else url
    return WeightsFile(location=location, sha256=digest, license=config.get("license")) if location else None


def _as_list(value: object) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)  # pyright: ignore
