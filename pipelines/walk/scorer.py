"""Decoded chunks -> rows of scores, by every model of a pass: the work of an actor.

A model that cannot be loaded, fails, or has no room loses its own rows and not those of the others. How a model is run
is `models.engine`'s concern.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil
import pyarrow as pa
import torch

from pipelines.cells.column import Column
from pipelines.messages import error_line, one_line
from pipelines.models import mirror
from pipelines.models.engine import Engine, NoRoomError, free_memory, is_device_fault, is_out_of_memory, keep_memory
from pipelines.models.ranking import Scores, averaged
from pipelines.pixels.decoded import DecodedChunk, decoded_chunks
from pipelines.records import SCORES
from pipelines.walk.failures import EMPTY, NON_FINITE, SCORED, Failure, FailureKind
from pipelines.walk.passes import PassConfig

_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AssertionError)
"""What a model raises that does not fit its images, or cannot be compiled here."""


@dataclass(frozen=True, slots=True)
class _NoModel:
    """Takes the place of a model that cannot be run."""

    kind: FailureKind
    reason: str


_Model = tuple[Engine, ...]
"""One engine, or those of an ensemble's members."""


class Scorer:
    """Holds every model of a pass on one device and scores decoded chunks with each of them."""

    def __init__(self, config: PassConfig) -> None:
        self._config = config
        self._device = torch.device(config.device)
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # one actor per core is faster than one actor with all cores
        torch.zeros(1, device=self._device)  # a device that is missing or faulty fails here, before any model
        self._before = _resident_bytes()
        self._models: list[_Model | _NoModel] = []
        for column in config.columns:
            self._models.append(self._load(column))
        keep_memory(self._device)  # not earlier: memory used for loading is not held by the models

    @property
    def _models_held(self) -> int:
        return sum(len(model) for model in self._models if not isinstance(model, _NoModel))

    def _load(self, column: Column) -> _Model | _NoModel:
        try:
            model = tuple(self._engine(member) for member in column.members)
        except OSError as error:
            return _NoModel("absent_model", one_line(error))
        except (*_FAULTS, MemoryError) as error:
            if is_device_fault(error):
                raise
            return self._without(error, beside_others=self._models_held > 0)
        if self._models_held and self._exceeds_memory():
            return self._without(NoRoomError(), beside_others=True)
        return model

    def _engine(self, member: Column) -> Engine:
        network = mirror.load(member.card, member.file)
        return Engine(
            network, member.card.preprocessing, member.settings, self._device, member.classes_kept, member.subset
        )

    def _exceeds_memory(self) -> bool:
        allowed = self._config.memory
        return allowed is not None and _resident_bytes() - self._before > allowed

    def _without(self, error: Exception, *, beside_others: bool) -> _NoModel:
        """What takes the place of the model that raised `error`."""
        if not is_out_of_memory(error):
            return _NoModel("failed_model", _reason(error))
        free_memory(self._device)
        if beside_others:  # another round runs it in a pass of its own
            return _NoModel("absent_model", "no room beside the others")
        return _NoModel("failed_model", "out of memory")

    def __call__(self, decoded: pa.Table) -> Iterator[pa.Table]:
        """Score each chunk of `decoded` (see `decoded.decoded_schema`) with each model; yields SCORES tables."""
        slots = range(len(self._models))
        for chunk in decoded_chunks(decoded, self._config.views):
            if chunk.failure is not None:
                kind = "absent_shard" if chunk.transient else "failed_shard"
                yield from (_failed(chunk, slot, _NoModel(kind, chunk.failure)) for slot in slots)
                continue
            if not chunk.keys:
                yield from (_empty(chunk, slot) for slot in slots)
                continue
            # Every model is launched before the scores of the first are waited for: that keeps a GPU busy.
            for slot, wait in enumerate([self._launch(chunk, slot) for slot in slots]):
                yield (
                    _failed(chunk, slot, wait)
                    if isinstance(wait, _NoModel)
                    else rows_of(chunk, slot, wait(), self._errors(chunk, slot))
                )

    def _errors(self, chunk: DecodedChunk, slot: int) -> list[str | None]:
        """By sample, why it has no pixels; an ensemble needs those of all its members."""
        views = sorted({member.view for member in self._config.columns[slot].members})
        return [next(filter(None, reasons), None) for reasons in zip(*map(chunk.errors, views), strict=True)]

    def _launch(self, chunk: DecodedChunk, slot: int) -> Callable[[], Scores] | _NoModel:
        model, column = self._models[slot], self._config.columns[slot]
        if isinstance(model, _NoModel):
            return model
        alone = self._models_held == 1
        try:
            waiting = [
                engine.launch(chunk.pixels(member.view), alone=alone)
                for engine, member in zip(model, column.members, strict=True)
            ]
            return waiting[0] if len(waiting) == 1 else partial(_averaged, waiting, column)
        except (*_FAULTS, MemoryError) as error:
            if is_device_fault(error):
                raise  # this actor is of no more use, and no model is to blame
            reason = error.with_traceback(None)  # its frames hold what the model has computed
        del model
        self._models[slot] = _NoModel("absent_model", "")  # drops the engines before memory is freed
        self._models[slot] = replacement = self._without(reason, beside_others=self._models_held > 0)
        return replacement


def _averaged(waiting: Sequence[Callable[[], Scores]], column: Column) -> Scores:
    return averaged([wait() for wait in waiting], column.classes_kept, column.subset)


def _reason(error: Exception) -> str:
    """The first paragraph of an error's message: compilers print pages after it."""
    if isinstance(error, ValueError):
        return one_line(str(error).partition("\n\n")[0])
    return error_line(error, first_paragraph=True)


def _resident_bytes() -> int:
    """Memory that this process has in use."""
    return psutil.Process().memory_info().rss


def rows_of(chunk: DecodedChunk, slot: int, scores: Scores, unread: Sequence[str | None]) -> pa.Table:
    """The SCORES rows of a chunk by one model.

    Args:
        chunk: the samples.
        slot: position of the model in the pass.
        scores: of the chunk, by sample.
        unread: by sample, why it has no pixels; such a row has no scores.
    """
    rows = len(chunk.keys)
    label_prob = _label_probabilities(chunk.labels, scores.probs)
    errors = _with_non_finite(unread, scores.sq_prob)
    bad = np.array([error is not None for error in errors])
    last = np.zeros(rows, bool)
    last[-1] = chunk.last
    passed = [*[None] * (rows - 1), chunk.passed]
    columns = {
        "kind": [SCORED] * rows,
        "slot": np.full(rows, slot, np.int32),
        "shard": np.full(rows, chunk.shard, np.int32),
        "last": last,
        "index": np.arange(chunk.start, chunk.start + rows, dtype=np.int32),
        "key": chunk.keys,
        "label": chunk.labels,
        "classes": _lists(scores.classes.astype(np.int16), bad),
        "probs": _lists(scores.top_probs, bad),
        "label_prob": pa.array(label_prob.data, mask=label_prob.mask | bad, type=pa.float32()),
        "sq_prob": pa.array(scores.sq_prob, mask=bad, type=pa.float32()),
        "logsumexp": pa.array(scores.logsumexp, mask=bad, type=pa.float32()),
        "digest": pa.array(chunk.digests, pa.uint64()),
        "error": errors,
        "offset": pa.array(chunk.offsets, pa.int64(), mask=~bad),
        "seconds": pa.array([scores.seconds and scores.seconds / rows] * rows, pa.float32()),
        "passed": pa.array(passed, pa.string()),
    }
    return pa.table(columns, schema=SCORES)


def _label_probabilities(labels: Sequence[int | None], probs_RN: np.ndarray) -> np.ma.MaskedArray:
    index = np.array([-1 if label is None else label for label in labels])
    known = (index >= 0) & (index < probs_RN.shape[1])
    picked = probs_RN[np.arange(len(index)), np.where(known, index, 0)]
    return np.ma.MaskedArray(picked, mask=~known)


def _with_non_finite(errors: Sequence[str | None], sq_prob: np.ndarray) -> list[str | None]:
    overflowed = f"{NON_FINITE}: the model's output is not a number"
    return [error or (None if fine else overflowed) for error, fine in zip(errors, np.isfinite(sq_prob), strict=True)]


def _lists(values: np.ndarray, bad: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    fixed = pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(bad))
    return fixed.cast(pa.list_(flat.type))


def _empty(chunk: DecodedChunk, slot: int) -> pa.Table:
    """The one row of SCORES that stands for a shard without samples."""
    row = {"kind": EMPTY, "slot": slot, "shard": chunk.shard, "last": False, "passed": chunk.passed}
    return pa.Table.from_pylist([row], schema=SCORES)


def _failed(chunk: DecodedChunk, slot: int, missing: _NoModel) -> pa.Table:
    failure = Failure(kind=missing.kind, slot=slot, shard=chunk.shard, reason=missing.reason)
    return failure.as_scores()
