"""SelecSLS (Mehta et al. 2020, XNect, arXiv:1907.00837): selective long and short range skips.

The block, the three models with published weights, and the key map of the authors' own files.

Tensors are named by shape: B batch, C channels, H height, W width, K classes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor, cat, nn

from zoo.architectures.resnet import initialise

_STEM_CHANNELS = 32


@dataclass(frozen=True, slots=True)
class StageSpec:
    """Blocks at one resolution, with `width` channels inside each block and `outs` output channels.

    The first block has stride 2; its output is the long-range skip into every later block of the stage.
    """

    width: int
    outs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A model: its stages, and the channels of the four convolutions of its head."""

    stages: tuple[StageSpec, ...]
    head: tuple[int, int, int, int]


_60_STAGES = (StageSpec(64, (64, 128)), StageSpec(128, (128, 128, 288)), StageSpec(288, (288, 288, 288, 416)))
_42B = NetworkSpec(
    (StageSpec(64, (64, 128)), StageSpec(144, (144, 288)), StageSpec(304, (304, 480))), (960, 1024, 1280, 1024)
)
_60 = NetworkSpec(_60_STAGES, (756, 1024, 1024, 1280))
_60B = NetworkSpec(_60_STAGES, (756, 1024, 1280, 1024))


def selecsls42b(num_classes: int = 1000) -> "SelecSLS":
    """SelecSLS-42B: 32,458,248 parameters with 1000 classes."""
    return SelecSLS(_42B, num_classes)


def selecsls60(num_classes: int = 1000) -> "SelecSLS":
    """SelecSLS-60: 30,670,768 parameters with 1000 classes."""
    return SelecSLS(_60, num_classes)


def selecsls60b(num_classes: int = 1000) -> "SelecSLS":
    """SelecSLS-60B: 32,774,064 parameters with 1000 classes."""
    return SelecSLS(_60B, num_classes)


def from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the classifier of the authors' own files (`classifier.0.weight`) to `fc.weight`; keep other keys."""
    return {re.sub(r"^classifier\.0\.", "fc.", key): tensor for key, tensor in state.items()}


class Block(nn.Module):
    """Convolutions in sequence whose outputs at three depths are concatenated and fused by a 1x1 convolution.

    Later blocks of a stage also concatenate the stage's skip, with `skip_channels` channels; 0 marks the first block.
    """

    def __init__(self, channels_in: int, width: int, channels: int, skip_channels: int) -> None:
        super().__init__()
        half, stride = width // 2, 1 if skip_channels else 2
        self.conv1 = _conv(channels_in, width, 3, stride)
        self.conv2 = _conv(width, width, 1)
        self.conv3 = _conv(width, half, 3)
        self.conv4 = _conv(half, width, 1)
        self.conv5 = _conv(width, half, 3)
        self.conv6 = _conv(2 * width + skip_channels, channels, 1)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor | None) -> Tensor:
        """(B, C, H, W) and the stage's skip to (B, C', H, W); a first block has no skip and halves H and W."""
        first = self.conv1(x_BCHW)
        second = self.conv3(self.conv2(first))
        third = self.conv5(self.conv4(second))
        skips = [] if skip_BCHW is None else [skip_BCHW]
        return self.conv6(cat([first, second, third, *skips], dim=1))


class SelecSLS(nn.Module):
    """Stem, blocks, a head of four convolutions, average pool, classifier."""

    def __init__(self, spec: NetworkSpec, num_classes: int) -> None:
        super().__init__()
        self.stem = _conv(3, _STEM_CHANNELS, 3, stride=2)
        self.features = nn.ModuleList(_blocks(spec.stages))
        self.head = _head(spec.stages[-1].outs[-1], spec.head)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(spec.head[-1], num_classes)
        self._starts = frozenset(accumulate((len(stage.outs) for stage in spec.stages), initial=0))
        self.apply(initialise)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to the last feature map, (B, C, H / 64, W / 64) rounded up."""
        x_BCHW, skip_BCHW = self.stem(x_BCHW), None
        for index, block in enumerate(self.features):
            x_BCHW = block(x_BCHW, None if index in self._starts else skip_BCHW)
            skip_BCHW = x_BCHW if index in self._starts else skip_BCHW
        return self.head(x_BCHW)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K)."""
        return self.fc(self.avgpool(self.forward_features(x_BCHW)).flatten(1))


def _blocks(stages: Sequence[StageSpec]) -> list[Block]:
    blocks, channels_in = [], _STEM_CHANNELS
    for stage in stages:
        for index, channels in enumerate(stage.outs):
            blocks.append(Block(channels_in, stage.width, channels, stage.outs[0] if index else 0))
            channels_in = channels
    return blocks


def _head(channels_in: int, channels: Sequence[int]) -> nn.Sequential:
    first, second, third, fourth = channels
    return nn.Sequential(
        _conv(channels_in, first, 3, stride=2),
        _conv(first, second, 3),
        _conv(second, third, 3, stride=2),
        _conv(third, fourth, 1),
    )


def _conv(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
