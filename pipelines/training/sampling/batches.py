"""Gathers decoded samples into a worker's batches, one for each step.

A slot whose sample has an error gets zeros for pixels and the label IGNORED, so it adds nothing to the loss.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.training.sampling.samples import WorkerShare

IGNORED = -100
"""The label of a slot that does not count in the loss: PyTorch's own default."""


class DataError(ValueError):
    """The data cannot be trained on; the message says why, and which data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """A worker's samples of one step, in R rows.

    Args:
        step: counted from 0.
        pixels: uint8 (R, H, W, 3), RGB.
        labels: int64 (R), IGNORED where there is an error.
        keys: of the samples.
        errors: why rows do not count, by row.
    """

    step: int
    pixels: np.ndarray
    labels: np.ndarray
    keys: tuple[str, ...]
    errors: dict[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True, slots=True)
class _StepSamples:
    """The samples of one step in a DECODED chunk: their positions in it."""

    step: int
    chunk: dict[str, Any]
    positions: np.ndarray


def gather_batches(chunks: Iterable[pa.Table], share: WorkerShare) -> Iterator[SampleBatch]:
    """A worker's batches, each as soon as all of its samples are there.

    Args:
        chunks: DECODED ones, in the order in which `read_ranges` yields them.
        share: the worker's.

    Raises:
        UnavailableError: if a store is unavailable.
    """
    builder = _BatchBuilder(share)
    for samples in _by_step(chunks):
        builder.add(samples)
        if builder.is_full:
            yield builder.batch(samples.step)
            builder = _BatchBuilder(share)
    assert not builder.filled, f"{builder.filled} slots of a batch are filled, and no samples are left"


def _by_step(chunks: Iterable[pa.Table]) -> Iterator[_StepSamples]:
    """The samples of each chunk, step by step."""
    for table in chunks:
        for chunk in table.to_pylist():
            if chunk["failure"] is not None:
                raise storage.UnavailableError(chunk["failure"])
            steps = np.array(chunk["steps"])
            yield from (_StepSamples(int(step), chunk, np.flatnonzero(steps == step)) for step in np.unique(steps))


class _BatchBuilder:
    """A batch that is being filled."""

    def __init__(self, share: WorkerShare) -> None:
        self._first, rows, size = share.slots.start, len(share.slots), share.augmentation.size
        self._pixels = np.zeros((rows, size, size, 3), np.uint8)
        self._labels, self._keys = np.full(rows, IGNORED), [""] * rows
        self._errors: dict[int, str] = {}
        self.filled = 0

    def add(self, samples: _StepSamples) -> None:
        """Copy samples into their rows."""
        chunk = samples.chunk
        rows = np.array(chunk["slots"])[samples.positions] - self._first
        pixels = np.frombuffer(chunk["pixels"], np.uint8).reshape(-1, *self._pixels.shape[1:])
        self._pixels[rows] = pixels[samples.positions]
        for row, at in zip(rows.tolist(), samples.positions.tolist(), strict=True):
            self._keys[row], error = chunk["keys"][at], chunk["errors"][at]
            if error is None:
                self._labels[row] = chunk["labels"][at]
            else:
                self._errors[row] = error
        self.filled += len(rows)

    @property
    def is_full(self) -> bool:
        return self.filled == len(self._keys)

    def batch(self, step: int) -> SampleBatch:
        keys = tuple(self._keys)
        return SampleBatch(step=step, pixels=self._pixels, labels=self._labels, keys=keys, errors=self._errors)
