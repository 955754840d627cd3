"""DropBlock drops whole squares, about as much as asked, in training alone, and keeps the mean."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from zoo.architectures.dropblock import DropBlock2d


def test_outside_training_and_at_zero_nothing_is_dropped():
    x = torch.ones(2, 3, 8, 8)
    assert DropBlock2d(0.5, 3).eval()(x) is x
    assert DropBlock2d(0.0, 3)(x) is x


@given(drop=st.floats(0.01, 0.4), block=st.integers(1, 5), height=st.integers(1, 14), width=st.integers(1, 14))
@settings(deadline=None)
def test_what_is_dropped_is_a_union_of_squares_and_the_rest_is_scaled_to_keep_the_sum(drop, block, height, width):
    torch.manual_seed(0)
    out = DropBlock2d(drop, block)(torch.ones(4, 8, height, width))
    zero = (out == 0).float()
    side = min(block, height, width)
    # Every zero lies in a square of zeros: opening the zeros by the square (erode, then dilate) changes nothing.
    edge = (side - 1,) * 4
    eroded = -F.max_pool2d(-zero, side, stride=1)
    assert torch.equal(F.max_pool2d(F.pad(eroded, edge), side, stride=1), zero)
    if not zero.all():
        assert float(out.sum()) == pytest.approx(out.numel(), rel=1e-4)


@pytest.mark.parametrize("block", [1, 3])
def test_about_the_asked_share_is_dropped(block: int):
    torch.manual_seed(0)
    out = DropBlock2d(0.1, block)(torch.ones(64, 64, 14, 14))
    # Squares overlap and those at the edge are as likely as others: the paper's rate is a little above what is lost.
    assert float((out == 0).float().mean()) == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_probability_is_asked_for(drop: float):
    with pytest.raises(ValueError, match=f"drop={drop}"):
        DropBlock2d(drop, 3)
