"""The folders of a store, each with one kind of object.

STORE/training/NAME is the home of a training; the package that owns a folder names what is inside.
"""

from enum import StrEnum


class Folder(StrEnum):
    """Where in a store jobs write: a name directly below the store's URI."""

    CELLS = "cells"
    """Predictions, a file for each shard: DATASET/COLUMN/SHARD."""
    DATASETS = "datasets"
    """The shards of each dataset that was evaluated, so that reports need not list the data again."""
    REPORTS = "reports"
    """Results of evaluations."""
    RUNS = "runs"
    """Records of jobs that filled cells."""
    TRAINING = "training"
    """Checkpoints, and whatever else belongs to a training."""
    TUNING = "tuning"
    """The fastest settings of models."""
    WEIGHTS = "weights"
    """Files of weights, and the locks that name their digests."""
    ZOO = "zoo"
    """Cards of models that were trained here."""


MLFLOW_ARTIFACTS = "mlartifacts"
"""Where MLflow writes. No `Folder`: unfinished uploads there are its own."""
