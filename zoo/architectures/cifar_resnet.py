"""ResNets for small images, of about 32 x 32 pixels (He et al. 2016, arXiv:1512.03385, section 4.2).

A 3x3 stem of 16 channels; three stages of 16, 32 and 64 channels with n blocks of two 3x3 convolutions each, 6n + 2
layers in all; shortcuts without parameters (option A). The zoo has no published weights for them: they are small enough
to train on a laptop, as the quickstart does.

Tensors are named by shape: B batch, C channels, H height, W width, K classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.architectures.resnet import initialise

_WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that, where the shape changes, subsamples pixels and zero-pads channels."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self._stride, self._added = stride, channels - channels_in

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, channels in, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        step = self._stride
        shortcut_BCHW = F.pad(x_BCHW[:, :, ::step, ::step], (0, 0, 0, 0, 0, self._added))
        out_BCHW = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x_BCHW)))))
        return F.relu(out_BCHW + shortcut_BCHW)


class CifarResNet(nn.Module):
    """Images to class logits, randomly initialised, with `blocks` blocks in each of the three stages."""

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0], blocks, stride=1)
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], blocks, stride=2)
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], blocks, stride=2)
        self.fc = nn.Linear(_WIDTHS[2], num_classes)
        self.apply(initialise)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K)."""
        x_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)))
        return self.fc(self.layer3(self.layer2(self.layer1(x_BCHW))).mean(dim=(2, 3)))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def cifar_resnet8(num_classes: int) -> CifarResNet:
    """ResNet-8 for small images: 139,640 parameters with 1000 classes."""
    return CifarResNet(1, num_classes)


def cifar_resnet20(num_classes: int) -> CifarResNet:
    """ResNet-20 for small images: 334,072 parameters with 1000 classes."""
    return CifarResNet(3, num_classes)
