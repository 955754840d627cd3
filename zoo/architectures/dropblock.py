"""DropBlock (Ghiasi et al. 2018, arXiv:1810.12890): dropout of whole squares of a feature map.

Owns the layer. Refuses a schedule: the probability is what its owner sets. It has no state and does nothing outside
training.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropBlock2d(nn.Module):
    """Zeroes squares of `block` pixels a side such that a share of about `drop` is zero, and scales up the rest.

    Where the map is smaller than the square, the square is as large as the map.
    """

    def __init__(self, drop: float, block: int) -> None:
        super().__init__()
        if not 0.0 <= drop < 1.0:
            raise ValueError(f"drop={drop} is not a probability in [0, 1)")
        self.drop = drop
        self.block = block

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; each channel of each image has squares of its own (algorithm 1)."""
        if not self.training or self.drop == 0.0:
            return x_BCHW
        height, width = x_BCHW.shape[2:]
        block = min(self.block, height, width)
        rows, columns = height - block + 1, width - block + 1
        # Eq. 1: seeds a position, so that the squares that grow from them cover the share that is asked for.
        seeds = self.drop / block**2 * (height * width) / (rows * columns)
        seeded = torch.rand(*x_BCHW.shape[:2], rows, columns, device=x_BCHW.device) < seeds
        # Each seed is a corner: padding by a square less one on all sides lets the pool spread it over its square.
        edge = block - 1
        dropped = F.max_pool2d(F.pad(seeded.to(x_BCHW.dtype), (edge, edge, edge, edge)), block, stride=1)
        kept = 1 - dropped
        return x_BCHW * kept * (kept.numel() / kept.sum().clamp(min=1))
