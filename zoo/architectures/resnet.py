"""The network that four families share: stem, four stages of bottleneck blocks, average pool, classifier.

After He et al. 2016 (arXiv:1512.03385, table 1) and, for groups, Xie et al. 2017 (arXiv:1611.05431). Modules have the
names of the published checkpoints: conv1, bn1, layer1 to layer4, fc. Each family's module defines the middle of a
block.

Tensors are named by shape: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

EXPANSION = 4
"""Output channels of a stage, divided by its planes."""
_PLANES = (64, 128, 256, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The position of a block: `stage` 0 to 3 with 64 to 512 `planes`; `first` marks the first block of a stage."""

    stage: int
    first: bool
    channels_in: int
    planes: int
    stride: int

    @property
    def channels(self) -> int:
        """Output channels of the block."""
        return self.planes * EXPANSION

    @property
    def projects(self) -> bool:
        """Whether the shortcut needs a projection, because input and output of the block differ in shape."""
        return self.stride != 1 or self.channels_in != self.channels


class Bottleneck(nn.Module):
    """A 1x1 convolution to fewer channels, a middle defined by the family, a 1x1 convolution to more, and the shortcut.

    A family's block passes the modules of its middle by name and applies them in `middle`. They are registered between
    the two 1x1 convolutions, which is the order of a checkpoint's keys.
    """

    def __init__(
        self, place: Place, width: int, middle: Mapping[str, nn.Module], middle_out: int | None = None
    ) -> None:
        """The middle has `width` input channels and `middle_out` output channels, by default as many."""
        super().__init__()
        self.conv1 = nn.Conv2d(place.channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        for name, module in middle.items():
            self.add_module(name, module)
        self.conv3 = nn.Conv2d(middle_out or width, place.channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(place.channels)
        self.downsample = self.projection(place) if place.projects else None
        self.drop: nn.Module = nn.Identity()
        """Regularises the residual before the addition; the identity unless a family replaces it."""
        self.act = nn.ReLU(inplace=True)

    def middle(self, x_BCHW: Tensor) -> Tensor:
        """(B, width, H, W) to (B, width, ceil(H / stride), ceil(W / stride))."""
        raise AssertionError(f"{type(self).__name__} does not define `middle`")

    def projection(self, place: Place) -> nn.Sequential:
        """The shortcut where the shape changes: a 1x1 convolution with the block's stride, and a batch norm."""
        conv = nn.Conv2d(place.channels_in, place.channels, 1, place.stride, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(place.channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, channels in, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        shortcut_BCHW = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        x_BCHW = self.act(self.bn1(self.conv1(x_BCHW)))
        x_BCHW = self.drop(self.bn3(self.conv3(self.middle(x_BCHW))))
        return self.act(x_BCHW + shortcut_BCHW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """The configuration of a network.

    Attributes:
        depths: Number of blocks in each of the four stages.
        block: Builds the block at a position.
        stem: Builds the first layers, from 3 to `stem_channels` channels at half the image size.
        stem_channels: Output channels of the stem.
        max_pool: Builds the pool after the stem.
        dropout: Probability of the dropout before the classifier.
        zero_init: Whether every block is initialised as the identity.
    """

    depths: Sequence[int]
    block: Callable[[Place], Bottleneck]
    stem: Callable[[], nn.Module] = lambda: nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    stem_channels: int = 64
    max_pool: Callable[[], nn.Module] = lambda: nn.MaxPool2d(3, stride=2, padding=1)
    dropout: float = 0.0
    zero_init: bool = False


class ResNet(nn.Module):
    """Images to class logits, as configured by a `Trunk`, randomly initialised."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, trunk: Trunk, num_classes: int) -> None:
        super().__init__()
        self.conv1 = trunk.stem()
        self.bn1 = nn.BatchNorm2d(trunk.stem_channels)
        self.act = nn.ReLU(inplace=True)
        self.maxpool = trunk.max_pool()
        channels = [trunk.stem_channels, *(planes * EXPANSION for planes in _PLANES)]
        for stage, planes in enumerate(_PLANES):
            self.add_module(f"layer{stage + 1}", _stage(trunk, stage, channels[stage], planes))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(trunk.dropout)
        self.fc = nn.Linear(channels[-1], num_classes)
        self.apply(initialise)
        if trunk.zero_init:
            self.apply(_zero_last_norm)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to the last feature map, (B, 2048, H / 32, W / 32) rounded."""
        x_BCHW = self.maxpool(self.act(self.bn1(self.conv1(x_BCHW))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x_BCHW))))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K)."""
        pooled_BC = self.avgpool(self.forward_features(x_BCHW)).flatten(1)
        return self.fc(self.dropout(pooled_BC))


def grouped_width(planes: int, base_width: int, groups: int) -> int:
    """Channels in the middle of a block; in the first stage it has `groups` groups of `base_width` channels."""
    return planes * base_width // 64 * groups


def initialise(module: nn.Module) -> None:
    """Convolutions by He et al. 2015 (arXiv:1502.01852, section 2.2), fan-out; other layers keep torch's values."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _stage(trunk: Trunk, stage: int, channels_in: int, planes: int) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for index in range(trunk.depths[stage]):
        first = index == 0
        blocks.append(
            trunk.block(
                Place(
                    stage=stage,
                    first=first,
                    channels_in=channels_in if first else planes * EXPANSION,
                    planes=planes,
                    stride=2 if first and stage > 0 else 1,
                )
            )
        )
    return nn.Sequential(*blocks)


def _zero_last_norm(module: nn.Module) -> None:
    if isinstance(module, Bottleneck):
        nn.init.zeros_(module.bn3.weight)
