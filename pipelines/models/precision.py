"""Which precisions a device has; without torch, so that a command line can be checked in no time."""

from pipelines.records import Precision


def require_precision(precision: Precision, device: str) -> None:
    """Check that `device` (`cpu`, `cuda` or `auto`) has the arithmetic of `precision`.

    Raises:
        ValueError: for tf32 on a CPU.
    """
    if precision == "tf32" and device == "cpu":
        raise ValueError("--precision tf32: only GPUs have it; on a CPU choose from fp32, bf16, fp16")
