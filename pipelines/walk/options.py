"""The options of a run that the walk needs. Imports nothing heavy: drivers make them before Ray is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where models run, and when a run is given up.

    Attributes:
        device: `cpu`, `cuda`, or `auto` for GPUs where the cluster has any.
        gpus: how many GPUs an autoscaler may be asked for.
        max_bad_rate: the share of images that may be bad; judged from the first thousand images on.
        pause_seconds: the wait before a round that follows an interrupted one: lost nodes are replaced, a store
            recovers.
    """

    device: str = "auto"
    gpus: int = 0
    max_bad_rate: float = 1.0
    pause_seconds: float = 15.0
