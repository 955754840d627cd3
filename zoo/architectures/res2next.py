"""Res2NeXt-50 (Gao et al. 2021, arXiv:1904.01169, section 3, with the groups of section 3.2).

The multi-scale block and the one model with published weights: 4 scales of 8 groups of 4 channels.
"""

from torch import Tensor, cat, nn

from zoo.architectures.resnet import Bottleneck, Place, ResNet, Trunk, grouped_width

_SCALES = 4
_GROUPS = 8
_BASE_WIDTH = 4


class Res2NeXtBlock(Bottleneck):
    """The middle splits its channels into four parts; three of them are convolved one after the other.

    A part's input is its own channels plus the output of the previous part (fig. 2b), so the block sees several scales
    at once. The last part is the identity. In the first block of a stage nothing is added, and the last part is an
    average over 3x3 pixels with the block's stride.
    """

    convs: nn.ModuleList
    bns: nn.ModuleList

    def __init__(self, place: Place) -> None:
        width = grouped_width(place.planes, _BASE_WIDTH, _GROUPS)
        convs = [
            nn.Conv2d(width, width, 3, place.stride, padding=1, groups=_GROUPS, bias=False) for _ in range(_SCALES - 1)
        ]
        norms = [nn.BatchNorm2d(width) for _ in convs]
        super().__init__(place, width * _SCALES, {"convs": nn.ModuleList(convs), "bns": nn.ModuleList(norms)})
        self.pool = nn.AvgPool2d(3, place.stride, padding=1) if place.first else None

    def middle(self, x_BCHW: Tensor) -> Tensor:
        """(B, 4 * width, H, W) to (B, 4 * width, ceil(H / stride), ceil(W / stride))."""
        *parts, last_BCHW = x_BCHW.chunk(_SCALES, dim=1)
        outs: list[Tensor] = []
        for part_BCHW, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            joined_BCHW = part_BCHW if self.pool or not outs else part_BCHW + outs[-1]
            outs.append(self.act(norm(conv(joined_BCHW))))
        return cat([*outs, self.pool(last_BCHW) if self.pool else last_BCHW], dim=1)


def res2next50(num_classes: int = 1000) -> ResNet:
    """Res2NeXt-50 with 8 groups, width 4 and 4 scales: 24,671,464 parameters with 1000 classes."""
    return ResNet(Trunk(depths=(3, 4, 6, 3), block=Res2NeXtBlock), num_classes)
