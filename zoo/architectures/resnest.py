"""ResNeSt (Zhang et al. 2020, arXiv:2004.08955): eight models with published weights.

Split attention (section 3); the stem, the shortcuts and the average pools in place of strides (section 4.1, "network
tweaks"); and the regularisation of the authors' recipe (section 4.2): DropBlock with probability 0.1 in the last two
stages of the models of 50 layers and more that were trained with it, dropout of 0.2 before the classifier from 200
layers on, and every block initialised as the identity. Two models (the "fast" ones) pool before the convolution, not
after it.

Tensors are named by shape: B batch, R radix, C channels, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from zoo.architectures.dropblock import DropBlock2d
from zoo.architectures.resnet import Bottleneck, Place, ResNet, Trunk, grouped_width

_REDUCTION = 4
_LEAST_ATTENTION = 32
_DEPTHS_50 = (3, 4, 6, 3)
_DROPBLOCK, _DROPBLOCK_SIZE = 0.1, 3
_DROPOUT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """How a block splits its channels: `cardinality` groups of `base_width` channels, each with `radix` splits."""

    radix: int = 2
    cardinality: int = 1
    base_width: int = 64
    averages_first: bool = False
    """Whether the average pool that replaces the stride precedes the convolution."""
    dropblock: float = 0.0


class SplitAttention(nn.Module):
    """A grouped convolution to `radix` splits, and the sum of the splits weighted by attention (section 3.1)."""

    def __init__(self, channels: int, splits: Splits, dropblock: float) -> None:
        super().__init__()
        self.radix, self.cardinality = splits.radix, splits.cardinality
        out, groups = channels * self.radix, self.cardinality * self.radix
        self.conv = nn.Conv2d(channels, out, 3, padding=1, groups=groups, bias=False)
        self.bn0 = nn.BatchNorm2d(out)
        self.drop = DropBlock2d(dropblock, _DROPBLOCK_SIZE)
        self.act = nn.ReLU(inplace=True)
        narrow = max(channels * self.radix // _REDUCTION, _LEAST_ATTENTION)
        self.fc1 = nn.Conv2d(channels, narrow, 1, groups=self.cardinality)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.fc2 = nn.Conv2d(narrow, out, 1, groups=self.cardinality)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x_BCHW = self.act(self.drop(self.bn0(self.conv(x_BCHW))))
        splits_BRCHW = x_BCHW.unflatten(1, (self.radix, -1))
        pooled_BC11 = splits_BRCHW.sum(1).mean((2, 3), keepdim=True)
        scores = self.fc2(self.act(self.bn1(self.fc1(pooled_BC11))))
        return (splits_BRCHW * self._weights(scores)).sum(1)

    def _weights(self, scores: Tensor) -> Tensor:
        """Scores (B, cardinality * R * c, 1, 1) to weights (B, R, C, 1, 1): softmax over splits, sigmoid if R is 1."""
        if self.radix == 1:
            return scores.sigmoid().unsqueeze(1)
        by_group = scores.unflatten(1, (self.cardinality, self.radix, -1)).transpose(1, 2)
        return by_group.softmax(dim=1).flatten(2, 3)


class ResNeStBlock(Bottleneck):
    """The middle is split attention, with an average pool in place of a stride."""

    conv2: SplitAttention

    def __init__(self, place: Place, splits: Splits) -> None:
        width = grouped_width(place.planes, splits.base_width, splits.cardinality)
        probability = splits.dropblock if place.stage >= 2 else 0.0
        super().__init__(place, width, {"conv2": SplitAttention(width, splits, probability)})
        self.drop = DropBlock2d(probability, _DROPBLOCK_SIZE)
        self.pool = nn.AvgPool2d(3, place.stride, padding=1) if place.stride > 1 else nn.Identity()
        self.averages_first = splits.averages_first

    def projection(self, place: Place) -> nn.Sequential:
        """The shortcut averages 2x2 pixels where the block has a stride, so its 1x1 convolution skips no pixel."""
        pool = nn.AvgPool2d(2, place.stride, ceil_mode=True, count_include_pad=False)
        conv = nn.Conv2d(place.channels_in, place.channels, 1, bias=False)
        return nn.Sequential(pool if place.stride > 1 else nn.Identity(), conv, nn.BatchNorm2d(place.channels))

    def middle(self, x_BCHW: Tensor) -> Tensor:
        """(B, width, H, W) to (B, width, ceil(H / stride), ceil(W / stride))."""
        # DropBlock of the first convolution, applied after its ReLU: zeroing and scaling commute with ReLU.
        x_BCHW = self.drop(x_BCHW)
        return self.conv2(self.pool(x_BCHW)) if self.averages_first else self.pool(self.conv2(x_BCHW))


def resnest14d(num_classes: int = 1000) -> ResNet:
    """ResNeSt-14 (GluonCV): 10,611,688 parameters with 1000 classes."""
    return _resnest((1, 1, 1, 1), 32, Splits(), num_classes)


def resnest26d(num_classes: int = 1000) -> ResNet:
    """ResNeSt-26 (GluonCV): 17,069,448 parameters with 1000 classes."""
    return _resnest((2, 2, 2, 2), 32, Splits(), num_classes)


def resnest50d(num_classes: int = 1000) -> ResNet:
    """ResNeSt-50: 27,483,240 parameters with 1000 classes."""
    return _resnest(_DEPTHS_50, 32, Splits(dropblock=_DROPBLOCK), num_classes)


def resnest101e(num_classes: int = 1000) -> ResNet:
    """ResNeSt-101: 48,275,016 parameters with 1000 classes."""
    return _resnest((3, 4, 23, 3), 64, Splits(dropblock=_DROPBLOCK), num_classes)


def resnest200e(num_classes: int = 1000) -> ResNet:
    """ResNeSt-200: 70,201,544 parameters with 1000 classes."""
    return _resnest((3, 24, 36, 3), 64, Splits(dropblock=_DROPBLOCK), num_classes, _DROPOUT)


def resnest269e(num_classes: int = 1000) -> ResNet:
    """ResNeSt-269: 110,929,480 parameters with 1000 classes."""
    return _resnest((3, 30, 48, 8), 64, Splits(dropblock=_DROPBLOCK), num_classes, _DROPOUT)


def resnest50d_4s2x40d(num_classes: int = 1000) -> ResNet:
    """ResNeSt-50 with radix 4, cardinality 2, width 40, pooling first: 30,417,592 parameters with 1000 classes."""
    splits = Splits(radix=4, cardinality=2, base_width=40, averages_first=True)
    return _resnest(_DEPTHS_50, 32, splits, num_classes)


def resnest50d_1s4x24d(num_classes: int = 1000) -> ResNet:
    """ResNeSt-50 with radix 1, cardinality 4, width 24, pooling first: 25,677,000 parameters with 1000 classes."""
    splits = Splits(radix=1, cardinality=4, base_width=24, averages_first=True)
    return _resnest(_DEPTHS_50, 32, splits, num_classes)


def _resnest(depths: Sequence[int], stem_width: int, splits: Splits, num_classes: int, dropout: float = 0.0) -> ResNet:
    trunk = Trunk(
        depths=depths,
        block=lambda place: ResNeStBlock(place, splits),
        stem=lambda: _deep_stem(stem_width),
        stem_channels=2 * stem_width,
        dropout=dropout,
        zero_init=True,
    )
    return ResNet(trunk, num_classes)


def _deep_stem(width: int) -> nn.Sequential:
    """Three 3x3 convolutions in place of a 7x7 one (ResNet-C, He et al. 2019, arXiv:1812.01187), no norm at the end."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
    )
