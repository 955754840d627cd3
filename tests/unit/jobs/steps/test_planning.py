"""What a plan says of its cost."""

import pytest

from jobs.steps import planning
from pipelines.walk.estimate import Estimate

WORK = Estimate(images=1000, gpu_seconds=7200.0, cpu_seconds=90.0, decode_seconds=10.0)


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda", "about 2.0 hours of a GPU and 10 seconds of a CPU to decode, $0.80"),
        ("cpu", "about 1.5 minutes of a CPU and 10 seconds of a CPU to decode, $0.00"),
    ],
)
def test_a_device_that_is_chosen_has_hours_and_dollars_of_its_own(device: str, told: str) -> None:
    assert planning.cost(WORK, device) == f"{told} (reckoned with pipelines/walk/prices.yaml)"


def test_where_none_is_chosen_both_are_told() -> None:
    assert "of a GPU" in planning.cost(WORK, "auto")
    assert "; or 1.5 minutes of a CPU" in planning.cost(WORK, "auto")


def test_what_a_cpu_cannot_run_has_no_price_there() -> None:
    work = Estimate(images=1, gpu_seconds=1.0, cpu_seconds=None, decode_seconds=1.0)
    assert planning.cost(work, "cpu").startswith("not known of this precision on a CPU")


@pytest.mark.parametrize(("device", "gpus"), [("auto", -1), ("cpu", 2)])
def test_gpus_that_cannot_be_are_refused_with_their_value(device: str, gpus: int) -> None:
    with pytest.raises(ValueError, match=f"--gpus {gpus}: expected a number"):
        planning.check_device(device, gpus)
