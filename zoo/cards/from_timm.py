"""Cards of timm's models: its pretrained configuration is the card.

A model that timm tests otherwise than our walk does is an error: another crop than the central one, or weights that
timm converts while it loads them.
"""

from typing import TYPE_CHECKING, Any

from zoo.cards import Card, WeightsFile
from zoo.cards.digests import digest_in
from zoo.preprocessing import Preprocessing

if TYPE_CHECKING:
    pass
from zoo.architectures.from_timm import config_of

_HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"


def card(name: str) -> Card:
    """The card of `timm:NAME`.

    The test size and crop are the configuration's own, as timm's validation uses them.

    Raises:
        ValueError: if timm is not installed, has no such model, or tests it in a way that we do not.
    """
    config = config_of(name)
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
