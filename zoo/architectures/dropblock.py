"""DropBlock (Ghiasi et al. 2018, arXiv:1810.12890): dropout of whole squares of a feature map.

The layer has no state, no schedule for its probability, and no effect in evaluation mode.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropBlock2d(nn.Module):
    """Zeroes squares of `block` x `block` pixels so that about a fraction `drop` is zero, and scales up the rest.

    On a map smaller than `block`, the squares have the size of the map.

    Raises:
        ValueError: If `drop` is not in [0, 1).
    """

    def __init__(self, drop: float, block: int) -> None:
        super().__init__()
        if not 0.0 <= drop < 1.0:
            raise ValueError(f"drop={drop} is not a probability in [0, 1)")
        self.drop = drop
        self.block = block

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; squares are drawn per image and channel (algorithm 1)."""
        if not self.training or self.drop == 0.0:
            return x_BCHW
        height, width = x_BCHW.shape[2:]
        block = min(self.block, height, width)
        rows, columns = height - block + 1, width - block + 1
        # Eq. 1: the probability of a seed per position, such that the squares cover the fraction `drop`.
        seeds = self.drop / block**2 * (height * width) / (rows * columns)
        seeded = torch.rand(*x_BCHW.shape[:2], rows, columns, device=x_BCHW.device) < seeds
        # A seed is a corner of its square: padded by block - 1 on all sides, the max-pool spreads it over the square.
        edge = block - 1
        dropped = F.max_pool2d(F.pad(seeded.to(x_BCHW.dtype), (edge, edge, edge, edge)), block, stride=1)
        kept = 1 - dropped
        return x_BCHW * kept * (kept.numel() / kept.sum().clamp(min=1))
