"""The recipe of Yalniz et al. 2019, in its own figures; and what cannot be trained."""

from dataclasses import replace

import pytest

from pipelines.training import recipe
from pipelines.training.recipe import Recipe

PAPER = recipe.with_length(recipe.pretraining(), images=1_000_000_000)


def test_pretraining_is_the_papers():
    steps = PAPER.steps(16_000_000)
    assert steps == 651_042
    assert PAPER.lr(0, steps) == pytest.approx(0.1)  # the warm-up begins there
    assert PAPER.lr(steps // 20 + 1, steps) == pytest.approx(0.6)
    assert PAPER.lr(steps - 1, steps) == pytest.approx(0.6 / 2**13)
    rates = [PAPER.lr(step, steps) for step in range(steps // 20 + 1, steps, 1000)]
    assert len({round(rate, 12) for rate in rates}) == 14


def test_a_segment_of_pretraining_has_46503_steps():
    steps = PAPER.steps(0)
    drops = [step for step in range(46_000, 94_000) if PAPER.lr(step, steps) < PAPER.lr(step - 1, steps)]
    assert drops == [46_503, 93_006]


def test_finetuning_is_the_papers():
    fine = recipe.with_length(recipe.finetuning(), epochs=30)
    steps = fine.steps(1_281_167)
    assert steps == round(30 * 1_281_167 / 1536)
    assert [fine.lr(steps * part // 8, steps) for part in (0, 1, 3, 5, 7)] == pytest.approx(
        [0.0015, 0.0015, 0.00015, 0.000015, 0.0000015]
    )


def test_the_learning_rate_is_scaled_with_the_batch():
    assert replace(PAPER, batch=256).peak == pytest.approx(0.1)
    assert replace(PAPER, batch=512).peak == pytest.approx(0.2)


@pytest.mark.parametrize(("batch", "size"), [(1536, 96), (64, 64), (100, 50), (97, 1), (7, 7)])
def test_a_micro_batch_is_the_greatest_divisor_up_to_96(batch: int, size: int):
    assert Recipe(batch=batch).seen_at_once == size


def test_what_is_no_length_is_at_least_one_step():
    assert Recipe(epochs=0.001).steps(10) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": 10, "epochs": 1.0}, r"--pre.images 10, --pre.epochs 1.0: give one"),
        ({"batch": 0}, r"--pre.batch 0: expected a positive number"),
        ({"lr_per_256": -0.1}, r"--pre.lr-per-256 -0.1: expected a positive number"),
        ({"flip": 1.5}, r"--pre.flip 1.5: expected a share"),
        ({"crop_scale": (0.9, 0.5)}, r"--pre.crop-scale 0.9 0.5: expected two shares"),
        ({"ema": 2.0}, r"--pre.ema 2.0: expected a share"),
        ({"batch": 64, "micro_batch": 64}, r"--pre.batch 64: 2 workers .* \(fitting here: .*8, 16, 32\)"),
        ({"batch": 63}, r"--pre.batch 63: 2 workers"),
        ({"batch": 254}, r"--pre.batch 254: no divisor from 8 to 96, and batch norm over 2 images says little"),
        ({"epochs": float("inf")}, r"--pre: infinite or no number"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_may_be(changes: dict, told: str):
    with pytest.raises(ValueError, match=told):
        recipe.check(replace(recipe.pretraining(), **changes), "--pre", 2)


def test_the_defaults_can_be_trained_by_one_and_by_sixteen():
    for workers in (1, 2, 4, 8, 16):
        recipe.check(recipe.pretraining(), "--pre", workers)
        recipe.check(recipe.finetuning(), "--fine", workers)
