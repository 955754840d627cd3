"""Figures of a walk for Prometheus, beside those that Ray exports itself.

Owns their names; in Prometheus each begins with `ray_`. Refuses to keep any: results are committed cells.
"""

from ray.util.metrics import Gauge

_SAID = {
    "images_per_second": "Images that went through all models, a second, since the first were done",
    "images": "Images that were scored in this run",
    "bad_images": "Of these, images that have an error in place of a score",
    "cells_done": "Cells that this run has committed",
    "cells_to_do": "Cells that it has still to commit",
    "model_seconds": "Seconds that all actors together have spent in models",
}


class Gauges:
    """Set again and again while a walk goes on; told by the dataset's name."""

    def __init__(self, dataset: str) -> None:
        self._gauges = {
            name: Gauge(f"menagerie_{name}", description=said, tag_keys=("dataset",)) for name, said in _SAID.items()
        }
        self._tags = {"dataset": dataset}

    def set(self, **values: float) -> None:
        """New values, by name."""
        for name, value in values.items():
            self._gauges[name].set(value, tags=self._tags)
