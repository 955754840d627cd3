"""A step of learning: against PyTorch's own, over micro-batches, with what regularises; and what stops it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipelines.models.engine import normalise
from pipelines.training.learner import ComputeSettings, Learner
from pipelines.training.recipe import Recipe
from pipelines.training.sampling.batches import IGNORED, SampleBatch
from tests.support.small_trainings import CLASSES, PREPROCESSING

SETTINGS = ComputeSettings(device="cpu", precision="fp32", channels_last=False, seed=3)
RECIPE = Recipe(epochs=1, batch=8, micro_batch=8, lr_per_256=3.2, flip=0.0)


def batch(step: int = 0, size: int = 8, seed: int = 0) -> SampleBatch:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (size, 12, 12, 3), np.uint8)
    labels = random.integers(0, CLASSES, size)
    return SampleBatch(step=step, pixels=pixels, labels=labels, keys=tuple(f"k{i}" for i in range(size)))


def network(*, norm: bool = True) -> nn.Module:
    torch.manual_seed(1)
    middle = nn.BatchNorm2d(6) if norm else nn.Identity()
    return nn.Sequential(nn.Conv2d(3, 6, 3), middle, nn.ReLU(), nn.Flatten(), nn.Linear(600, CLASSES))


def learner(model: nn.Module, recipe: Recipe = RECIPE, settings: ComputeSettings = SETTINGS) -> Learner:
    return Learner(model, PREPROCESSING, recipe, settings)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def test_steps_are_those_of_a_plain_loop_with_pytorchs_sgd():
    plain = network()
    own = learner(copy.deepcopy(plain))
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PREPROCESSING.mean, PREPROCESSING.std))
    for step in range(5):
        given = batch(step, seed=step)
        loss = F.cross_entropy(
            plain(normalise(torch.from_numpy(given.pixels), mean, std, is_bgr=False)), torch.from_numpy(given.labels)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        taken = own.gradients(given, "pretrain")
        own.step(0.1)
        assert taken.loss_sum / taken.images == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(weights(own.network), weights(plain))
    torch.testing.assert_close(own.network[1].running_mean, plain[1].running_mean)


def test_micro_batches_add_up_to_the_gradients_of_the_batch():
    whole, parts = network(norm=False), network(norm=False)
    one, other = learner(whole), learner(parts, replace(RECIPE, micro_batch=2))
    assert one.gradients(batch(), "s").loss_sum == pytest.approx(other.gradients(batch(), "s").loss_sum, rel=1e-6)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_place_that_is_ignored_adds_nothing_to_loss_and_gradients():
    given = batch()
    given.labels[5:] = IGNORED
    some, only = learner(network(norm=False)), learner(network(norm=False))
    taken = some.gradients(given, "s")
    first = replace(given, pixels=given.pixels[:5], labels=given.labels[:5], keys=given.keys[:5])
    assert (taken.images, taken.loss_sum) == (5, pytest.approx(only.gradients(first, "s").loss_sum, rel=1e-6))
    for a, b in zip(some.network.parameters(), only.network.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4, "cutmix": 1.0}, {"ema": 0.9, "clip": 0.1}])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_a_state_restores_goes_on_bit_for_bit(changes: dict, precision: str):
    recipe, settings = replace(RECIPE, micro_batch=4, **changes), replace(SETTINGS, precision=precision)
    whole, first = learner(network(), recipe, settings), learner(network(), recipe, settings)
    for step in range(6):
        whole.gradients(batch(step, seed=step), "s")
        whole.step(0.05)
        if step < 3:
            first.gradients(batch(step, seed=step), "s")
            first.step(0.05)
    second = learner(network(norm=True), recipe, settings)
    second.restore(copy.deepcopy(first.state()))
    torch.rand(17)  # random numbers drawn elsewhere do not matter
    for step in range(3, 6):
        second.gradients(batch(step, seed=step), "s")
        second.step(0.05)
    assert all(torch.equal(a, b) for a, b in zip(whole.weights().values(), second.weights().values(), strict=True))


def test_norms_and_biases_decay_only_where_they_should():
    model = network()
    before = weights(model)
    own = learner(model, replace(RECIPE, weight_decay=0.5, decay_norm_and_bias=False))
    own.gradients(replace(batch(), labels=np.full(8, IGNORED)), "s")  # no gradient but decay
    own.step(0.1)
    shrunk = weights(model) != before
    biases = torch.cat([torch.full_like(p, p.ndim <= 1).reshape(-1) for p in model.parameters()]).bool()
    assert torch.equal(shrunk, ~biases & (before != 0))


def test_gradients_are_clipped_to_their_norm_and_the_learning_rate_is_the_steps():
    model = network()
    before = weights(model)
    own = learner(model, replace(RECIPE, clip=0.01, momentum=0.0, weight_decay=0.0))
    own.gradients(batch(), "s")
    own.step(0.5)
    assert float((weights(model) - before).norm()) == pytest.approx(0.005, rel=1e-3)


def test_the_moving_average_is_what_is_published():
    own = learner(network(), replace(RECIPE, ema=0.75))
    start = own.network[0].weight.detach().clone()
    own.gradients(batch(), "s")
    own.step(0.1)
    torch.testing.assert_close(own.weights()["0.weight"], 0.75 * start + 0.25 * own.network[0].weight.detach())


def test_a_loss_that_is_not_finite_names_its_images_before_a_weight_has_moved():
    model = network()
    before = weights(model)
    with torch.no_grad():
        model[4].bias.copy_(torch.tensor([float("nan"), 0, 0, 0]))
    taken = learner(model, replace(RECIPE, micro_batch=4)).gradients(batch(), "s")
    assert taken.non_finite == tuple(f"k{i}" for i in range(8))
    assert torch.equal(weights(model)[:-CLASSES], before[:-CLASSES])


def test_mixing_has_the_loss_of_both_labels_and_changes_with_the_step_alone():
    recipe = replace(RECIPE, mixup=1.0)
    losses = [learner(network(), recipe).gradients(batch(step), "s").loss_sum for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    plain = learner(network()).gradients(batch(), "s").loss_sum
    assert losses[0] != plain


def test_channels_last_learns_the_same():
    one, other = learner(network()), learner(network(), settings=replace(SETTINGS, channels_last=True))
    assert one.gradients(batch(), "s").loss_sum == pytest.approx(other.gradients(batch(), "s").loss_sum, rel=1e-5)
