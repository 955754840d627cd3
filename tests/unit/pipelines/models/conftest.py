"""A fixture of tests of weights: the state of a small model."""

import pytest
import torch
from torch import Tensor

import zoo


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return zoo.create("efficientnet_lite0", num_classes=2).state_dict()
