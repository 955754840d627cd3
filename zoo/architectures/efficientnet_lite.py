"""EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946, table 1, with the changes of its authors' Lite release).

Lite is EfficientNet without squeeze-and-excite, with ReLU6 in place of swish, and with a stem and a head that do not
scale with the width. Stochastic depth belongs to the training recipe and is not part of the network.

Tensors are named by shape: B batch, C channels, H height, W width, K classes.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

# TensorFlow's decay of 0.99 is torch's momentum of 0.01.
_NORM_EPS = 1e-3
_NORM_MOMENTUM = 0.01
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
_DROPOUT = 0.2


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A row of the paper's table 1: `num_blocks` blocks; the first one has the stride and changes the width."""

    expansion: int
    channels: int
    num_blocks: int
    kernel: int
    stride: int


_LITE0 = (
    StageSpec(1, 16, 1, 3, 1),
    StageSpec(6, 24, 2, 3, 2),
    StageSpec(6, 40, 2, 5, 2),
    StageSpec(6, 80, 3, 3, 2),
    StageSpec(6, 112, 3, 5, 1),
    StageSpec(6, 192, 4, 5, 2),
    StageSpec(6, 320, 1, 3, 1),
)


def efficientnet_lite0(num_classes: int = 1000) -> "EfficientNetLite":
    """EfficientNet-Lite0, randomly initialised: 4,652,008 parameters with 1000 classes."""
    return EfficientNetLite(_LITE0, num_classes)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the published checkpoint's keys (`_blocks.1._bn0.weight`) to the zoo's (`blocks.1.expand.norm.weight`).

    Other keys are unchanged, so the zoo's own checkpoints load too; unknown keys are reported by the strict load.
    """
    return {_zoo_key(key): tensor for key, tensor in state.items()}


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded by TensorFlow's "SAME" rule: output side = ceil(input side / stride).

    The padding depends on the input's size; an odd padding has its extra pixel at the right and the bottom.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # With stride 1 and an odd kernel the padding is symmetric for every size, so the convolution can do it itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels_in, channels, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        x_BCHW = input
        if self.stride[0] > 1:
            rows = _same_padding(x_BCHW.shape[2], self.kernel_size[0], self.stride[0])
            columns = _same_padding(x_BCHW.shape[3], self.kernel_size[1], self.stride[1])
            x_BCHW = F.pad(x_BCHW, (*columns, *rows))
        return super().forward(x_BCHW)


class Block(nn.Module):
    """The inverted residual: 1x1 expansion (unless the factor is 1), depthwise convolution, 1x1 projection."""

    def __init__(self, channels_in: int, channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.has_residual = stride == 1 and channels_in == channels
        self.expand = _conv_norm(SameConv2d(channels_in, wide, 1)) if expansion > 1 else nn.Identity()
        self.depthwise = _conv_norm(SameConv2d(wide, wide, kernel, stride, groups=wide))
        self.project = _conv_norm(SameConv2d(wide, channels, 1), activate=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        out_BCHW = self.project(self.depthwise(self.expand(x_BCHW)))
        return x_BCHW + out_BCHW if self.has_residual else out_BCHW


class EfficientNetLite(nn.Module):
    """Stem, inverted residual blocks, head, average pool, dropout, linear classifier."""

    def __init__(self, stages: tuple[StageSpec, ...], num_classes: int) -> None:
        super().__init__()
        self.stem = _conv_norm(SameConv2d(3, _STEM_CHANNELS, 3, stride=2))
        self.blocks = nn.Sequential(*_blocks(stages))
        self.head = _conv_norm(SameConv2d(stages[-1].channels, _HEAD_CHANNELS, 1))
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(_HEAD_CHANNELS, num_classes)
        self.apply(_initialise)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) of any size to the last feature map (B, 1280, ceil(H / 32), ceil(W / 32))."""
        return self.head(self.blocks(self.stem(x_BCHW)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) of any size to logits (B, K)."""
        return self.classifier(self.dropout(self.forward_features(x_BCHW).mean((2, 3))))


def _blocks(stages: tuple[StageSpec, ...]) -> list[Block]:
    blocks = []
    channels_in = _STEM_CHANNELS
    for stage in stages:
        for index in range(stage.num_blocks):
            stride = stage.stride if index == 0 else 1
            blocks.append(Block(channels_in, stage.channels, stage.expansion, stage.kernel, stride))
            channels_in = stage.channels
    return blocks


def _conv_norm(conv: SameConv2d, activate: bool = True) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    layers["norm"] = nn.BatchNorm2d(conv.out_channels, _NORM_EPS, _NORM_MOMENTUM)
    if activate:
        layers["activation"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after a side; its last window starts `size % stride or stride` pixels before its end."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def _initialise(module: nn.Module) -> None:
    """He et al. 2015 by fan-out, as in the authors' release; torch's function ignores groups in the fan-out."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
        nn.init.zeros_(module.bias)


def _zoo_key(key: str) -> str:
    module, _, entry = key.rpartition(".")
    return f"{_ZOO_MODULES.get(module, module)}.{entry}"


def _zoo_modules(num_blocks: int) -> dict[str, str]:
    """Published module name to the zoo's; norms keep their number where a block lacks the expansion."""
    modules = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.norm",
        "_conv_head": "head.conv",
        "_bn1": "head.norm",
        "_fc": "classifier",
    }
    for block in range(num_blocks):
        for place, part in enumerate(("expand", "depthwise", "project")):
            modules[f"_blocks.{block}._{part}_conv"] = f"blocks.{block}.{part}.conv"
            modules[f"_blocks.{block}._bn{place}"] = f"blocks.{block}.{part}.norm"
    return modules


_ZOO_MODULES = _zoo_modules(sum(stage.num_blocks for stage in _LITE0))
