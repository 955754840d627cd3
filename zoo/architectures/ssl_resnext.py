"""The semi-supervised ResNeXts (Yalniz et al. 2019, arXiv:1905.00546).

The grouped block (Xie et al. 2017, arXiv:1611.05431, fig. 3c) and the four students with published weights. They are
plain ResNeXts: what is semi-supervised is their training.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.architectures.resnet import Bottleneck, Place, ResNet, Trunk, grouped_width

_GROUPS = 32
_DEPTHS_50 = (3, 4, 6, 3)
_DEPTHS_101 = (3, 4, 23, 3)


class ResNeXtBlock(Bottleneck):
    """The middle is one grouped 3x3 convolution with the block's stride."""

    conv2: nn.Conv2d
    bn2: nn.BatchNorm2d

    def __init__(self, place: Place, base_width: int) -> None:
        width = grouped_width(place.planes, base_width, _GROUPS)
        conv2 = nn.Conv2d(width, width, 3, place.stride, padding=1, groups=_GROUPS, bias=False)
        super().__init__(place, width, {"conv2": conv2, "bn2": nn.BatchNorm2d(width)})

    def middle(self, x_BCHW: Tensor) -> Tensor:
        """(B, width, H, W) to (B, width, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.bn2(self.conv2(x_BCHW)))


def ssl_resnext50_32x4d(num_classes: int = 1000) -> ResNet:
    """ResNeXt-50 32x4d: 25,028,904 parameters with 1000 classes."""
    return _resnext(_DEPTHS_50, 4, num_classes)


def ssl_resnext101_32x4d(num_classes: int = 1000) -> ResNet:
    """ResNeXt-101 32x4d: 44,177,704 parameters with 1000 classes."""
    return _resnext(_DEPTHS_101, 4, num_classes)


def ssl_resnext101_32x8d(num_classes: int = 1000) -> ResNet:
    """ResNeXt-101 32x8d: 88,791,336 parameters with 1000 classes."""
    return _resnext(_DEPTHS_101, 8, num_classes)


def ssl_resnext101_32x16d(num_classes: int = 1000) -> ResNet:
    """ResNeXt-101 32x16d: 194,026,792 parameters with 1000 classes."""
    return _resnext(_DEPTHS_101, 16, num_classes)


def _resnext(depths: Sequence[int], base_width: int, num_classes: int) -> ResNet:
    return ResNet(Trunk(depths=depths, block=lambda place: ResNeXtBlock(place, base_width)), num_classes)
