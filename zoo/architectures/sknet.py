"""SKNet-50 and SKNet-101 (Li et al. 2019, arXiv:1903.06586, section 3 and table 1), after the authors' Caffe networks.

Where the paper and the published networks differ, this follows the networks: a max-pool without padding that rounds up,
attention of width 16 in the second stage of SKNet-101, batch norm and ReLU after the attention's first layer. The one
exception is the fixed 7x7 average pool of the prototxt, which only fits images of 224 pixels: a global average is equal
there and works for every size.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zoo.architectures.resnet import Bottleneck, Place, ResNet, Trunk, grouped_width

_GROUPS = 32
_BASE_WIDTH = 4
_DILATIONS = (1, 2)
"""Of the two 3x3 paths; the second has the receptive field of a 5x5 kernel (section 3.1)."""
# Caffe's decay of 0.95 is torch's momentum of 0.05.
_NORM_MOMENTUM = 0.05


class SelectiveKernel(nn.Module):
    """Split into paths of different receptive fields, fuse them by summation, select by a softmax over the paths."""

    def __init__(self, channels: int, stride: int, attention_width: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_path(channels, stride, dilation) for dilation in _DILATIONS)
        self.fc_reduce = nn.Conv2d(channels, attention_width, 1, bias=False)
        self.bn = nn.BatchNorm2d(attention_width)
        self.act = nn.ReLU(inplace=True)
        self.fc_select = nn.Conv2d(attention_width, channels * len(_DILATIONS), 1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride)); P is the number of paths."""
        paths_BPCHW = torch.stack([path(x_BCHW) for path in self.paths], dim=1)
        pooled_BC11 = paths_BPCHW.sum(1).mean((2, 3), keepdim=True)
        scores = self.fc_select(self.act(self.bn(self.fc_reduce(pooled_BC11))))
        weights_BPC11 = scores.unflatten(1, (len(_DILATIONS), -1)).softmax(dim=1)
        return (paths_BPCHW * weights_BPC11).sum(1)


class SKUnit(Bottleneck):
    """The middle is a selective kernel."""

    conv2: SelectiveKernel

    def __init__(self, place: Place, attention_width: int) -> None:
        width = grouped_width(place.planes, _BASE_WIDTH, _GROUPS)
        super().__init__(place, width, {"conv2": SelectiveKernel(width, place.stride, attention_width)})

    def middle(self, x_BCHW: Tensor) -> Tensor:
        """(B, width, H, W) to (B, width, ceil(H / stride), ceil(W / stride))."""
        return self.conv2(x_BCHW)


def sknet50(num_classes: int = 1000) -> ResNet:
    """SKNet-50: 27,479,784 parameters with 1000 classes."""
    return _sknet((3, 4, 6, 3), (32, 32, 32, 64), num_classes)


def sknet101(num_classes: int = 1000) -> ResNet:
    """SKNet-101: 48,686,760 parameters with 1000 classes."""
    return _sknet((3, 4, 23, 3), (32, 16, 32, 64), num_classes)


def from_caffe(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Caffe's blobs (`conv3_1/3x3g32d2/bn/2`) to the zoo's (`layer2.0.conv2.paths.1.1.running_mean`).

    Caffe does not count the batches of a batch norm, so `num_batches_tracked` is 0. Other names are unchanged: the
    zoo's own keys, and unknown ones, which the strict load reports.
    """
    renamed = {_zoo_key(name): _flat(name, blob) for name, blob in state.items()}
    norms = {key.rpartition(".")[0] for key in renamed if key.endswith(".running_mean")}
    counts = {f"{norm}.num_batches_tracked": torch.zeros((), dtype=torch.int64) for norm in norms}
    return counts | renamed


_ZOO_MODULES = {
    "1x1_reduce": ("conv1", "bn1"),
    "3x3g32": ("conv2.paths.0.0", "conv2.paths.0.1"),
    "3x3g32d2": ("conv2.paths.1.0", "conv2.paths.1.1"),
    "B_fc1": ("conv2.fc_reduce", "conv2.bn"),
    "B_fc2": ("conv2.fc_select", ""),
    "1x1_increase": ("conv3", "bn3"),
    "1x1_proj": ("downsample.0", "downsample.1"),
}
"""From a Caffe layer of a unit to the convolution and the batch norm of an `SKUnit`."""
_NORM_BLOBS = ("weight", "bias", "running_mean", "running_var")
_LAYER_BLOBS = ("weight", "bias")


def _zoo_key(name: str) -> str:
    """`classifier/1` -> `fc.bias`, `conv1/7x7_s2/bn/0` -> `bn1.weight`, `conv2_1/B_fc2/0` -> `layer1.0....weight`."""
    layer, _, index = name.rpartition("/")
    layer, is_norm, _ = layer.partition("/bn")
    module = {"classifier": ("fc", ""), "conv1/7x7_s2": ("conv1", "bn1")}.get(layer)
    if unit := re.fullmatch(r"conv([2-5])_(\d+)/(\w+)", layer):
        inner = _ZOO_MODULES.get(unit[3])
        prefix = f"layer{int(unit[1]) - 1}.{int(unit[2]) - 1}"
        module = (f"{prefix}.{inner[0]}", f"{prefix}.{inner[1]}") if inner else None
    blobs = _NORM_BLOBS if is_norm else _LAYER_BLOBS
    if module is None or not index.isdigit() or int(index) >= len(blobs):
        return name
    return f"{module[bool(is_norm)]}.{blobs[int(index)]}"


def _flat(name: str, blob: Tensor) -> Tensor:
    """The blob of a batch norm as a vector: Caffe may write (C,) as (1, C, 1, 1)."""
    return blob.reshape([side for side in blob.shape if side > 1]) if "/bn/" in name else blob


def _sknet(depths: Sequence[int], attention_widths: Sequence[int], num_classes: int) -> ResNet:
    trunk = Trunk(
        depths=depths,
        block=lambda place: SKUnit(place, attention_widths[place.stage]),
        max_pool=lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True),
    )
    model = ResNet(trunk, num_classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = _NORM_MOMENTUM
    return model


def _path(channels: int, stride: int, dilation: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, groups=_GROUPS, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
