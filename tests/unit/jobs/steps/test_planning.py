"""Covers jobs.steps.options, planning and plan_summary: options that cannot be used, and the cost of a plan."""

import pytest

from jobs.evaluate import EvaluateConfig
from jobs.steps import options, planning
from jobs.steps.plan_summary import cost_line
from pipelines.walk.estimate import Estimate

WORK = Estimate(images=1000, gpu_seconds=7200.0, cpu_seconds=90.0, decode_seconds=10.0)


@pytest.mark.parametrize(
    ("device", "cost"),
    [
        ("cuda", "about 2.0 hours of GPU time for the models and 10 seconds of CPU time to decode, $0.80"),
        ("cpu", "about 1.5 minutes of CPU time for the models and 10 seconds of CPU time to decode, $0.00"),
    ],
)
def test_a_device_that_is_chosen_has_hours_and_dollars_of_its_own(device: str, cost: str) -> None:
    assert cost_line(WORK, device, gpus=0) == f"{cost} (estimated from pipelines/walk/prices.yaml)"


def test_where_none_is_chosen_both_are_told() -> None:
    assert "of GPU time" in cost_line(WORK, "auto", gpus=0)
    assert "; or 1.5 minutes of CPU time" in cost_line(WORK, "auto", gpus=0)


def test_gpus_that_are_asked_for_decide_the_device() -> None:
    assert cost_line(WORK, "auto", gpus=2) == cost_line(WORK, "cuda", gpus=0)


def test_what_a_cpu_cannot_run_has_no_price_there() -> None:
    work = Estimate(images=1, gpu_seconds=1.0, cpu_seconds=None, decode_seconds=1.0)
    assert cost_line(work, "cpu", gpus=0).startswith("not known for this precision on a CPU")


@pytest.mark.parametrize(("device", "gpus"), [("auto", -1), ("cpu", 2)])
def test_gpus_that_cannot_be_are_refused_with_their_value(device: str, gpus: int) -> None:
    with pytest.raises(ValueError, match=f"--gpus {gpus}: expected a number"):
        options.check_device(device, gpus)


def test_one_mode_is_chosen_or_the_default_and_two_are_an_error() -> None:
    modes = ("dry_run", "status", "verify")
    assert options.chosen_mode(EvaluateConfig(), modes, "fill") == "fill"
    assert options.chosen_mode(EvaluateConfig(verify=True), modes, "fill") == "verify"
    with pytest.raises(ValueError, match="--dry-run and --verify: choose one"):
        options.chosen_mode(EvaluateConfig(verify=True, dry_run=True), modes, "fill")


def test_a_cpu_has_no_tf32_and_the_message_names_what_it_has() -> None:
    with pytest.raises(ValueError, match=r"--precision tf32: .* choose from fp32, bf16, fp16"):
        options.check(EvaluateConfig(device="cpu", precision=("fp32", "tf32")))


def test_an_evaluation_set_is_looked_up_once(monkeypatch, tmp_path, write_tar) -> None:
    write_tar(tmp_path / "val" / "0.tar", [("0.jpg", b"x")])
    lookups, named = [], planning.evaluation_sets.named
    monkeypatch.setattr(planning.evaluation_sets, "named", lambda *of: lookups.append(of) or named(*of))
    config = EvaluateConfig(models="efficientnet_lite0", data=(str(tmp_path / "val"),), dataset="imagenet-val")
    planned = planning.plan_run(config)
    assert len(lookups) == 1
    assert planned.models.evaluation_set and planned.models.evaluation_set.name == "imagenet-val"
    assert [column.model for column in planned.usable_columns()] == ["efficientnet_lite0"]
    excluded = planned.excluding({"efficientnet_lite0": "no weights"})
    assert not excluded.usable_columns()
    assert not planned.unusable
