"""Metrics of a walk for Prometheus, beside those that Ray exports itself.

In Prometheus each name begins with `ray_menagerie_`.
"""

from ray.util.metrics import Gauge

_DESCRIPTIONS = {
    "images_per_second": "Images scored by all models per second, since the first were scored",
    "images": "Images scored in this run",
    "bad_images": "Those of them that have an error instead of a score",
    "cells_done": "Cells committed by this run",
    "cells_to_do": "Cells that this run has still to commit",
    "model_seconds": "Seconds spent in models by all actors together",
}


class Gauges:
    """The metrics of one walk, tagged with its dataset."""

    def __init__(self, dataset: str) -> None:
        self._gauges = {
            name: Gauge(f"menagerie_{name}", description=description, tag_keys=("dataset",))
            for name, description in _DESCRIPTIONS.items()
        }
        self._tags = {"dataset": dataset}

    def set(self, **values: float) -> None:
        """Set new values, by name."""
        for name, value in values.items():
            self._gauges[name].set(value, tags=self._tags)
