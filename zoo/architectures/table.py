"""The table of architectures: builder, exact number of parameters, and key map of public checkpoints.

Weights and claims belong to cards; one architecture may have several cards.
"""

import difflib

from zoo.architectures.architecture import TIMM, Architecture


def find_architecture(name: str) -> Architecture:
    """The architecture `name`, or timm's for `timm:NAME`.

    Raises:
        ValueError: If there is no such architecture, or timm is needed and not installed.
    """
    if name.startswith(TIMM):
        from zoo.architectures import from_timm

        return from_timm.architecture(name)
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown architecture {name!r}{hint} (known: {', '.join(sorted(ARCHITECTURES))})")
    return ARCHITECTURES[name]


def _selecsls(name: str, params: int, features: int) -> Architecture:
    key_map = "zoo.architectures.selecsls:from_authors"
    return Architecture(builder=f"zoo.architectures.selecsls:{name}", params=params, features=features, key_map=key_map)


def _resnet(family: str, name: str, params: int, key_map: str | None = None) -> Architecture:
    return Architecture(builder=f"zoo.architectures.{family}:{name}", params=params, features=2048, key_map=key_map)


def _cifar(name: str, params: int) -> Architecture:
    return Architecture(builder=f"zoo.architectures.cifar_resnet:{name}", params=params, features=64)


ARCHITECTURES = {
    "efficientnet_lite0": Architecture(
        builder="zoo.architectures.efficientnet_lite:efficientnet_lite0",
        params=4_652_008,
        features=1280,
        key_map="zoo.architectures.efficientnet_lite:from_published",
        classifier="classifier",
    ),
    "selecsls42b": _selecsls("selecsls42b", 32_458_248, 1024),
    "selecsls60": _selecsls("selecsls60", 30_670_768, 1280),
    "selecsls60b": _selecsls("selecsls60b", 32_774_064, 1024),
    "res2next50": _resnet("res2next", "res2next50", 24_671_464),
    "sknet50": _resnet("sknet", "sknet50", 27_479_784, "zoo.architectures.sknet:from_caffe"),
    "sknet101": _resnet("sknet", "sknet101", 48_686_760, "zoo.architectures.sknet:from_caffe"),
    "ssl_resnext50_32x4d": _resnet("ssl_resnext", "ssl_resnext50_32x4d", 25_028_904),
    "ssl_resnext101_32x4d": _resnet("ssl_resnext", "ssl_resnext101_32x4d", 44_177_704),
    "ssl_resnext101_32x8d": _resnet("ssl_resnext", "ssl_resnext101_32x8d", 88_791_336),
    "ssl_resnext101_32x16d": _resnet("ssl_resnext", "ssl_resnext101_32x16d", 194_026_792),
    "resnest14d": _resnet("resnest", "resnest14d", 10_611_688),
    "resnest26d": _resnet("resnest", "resnest26d", 17_069_448),
    "resnest50d": _resnet("resnest", "resnest50d", 27_483_240),
    "resnest101e": _resnet("resnest", "resnest101e", 48_275_016),
    "resnest200e": _resnet("resnest", "resnest200e", 70_201_544),
    "resnest269e": _resnet("resnest", "resnest269e", 110_929_480),
    "resnest50d_4s2x40d": _resnet("resnest", "resnest50d_4s2x40d", 30_417_592),
    "resnest50d_1s4x24d": _resnet("resnest", "resnest50d_1s4x24d", 25_677_000),
    "cifar_resnet8": _cifar("cifar_resnet8", 139_640),
    "cifar_resnet20": _cifar("cifar_resnet20", 334_072),
}
