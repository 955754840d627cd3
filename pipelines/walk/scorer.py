"""Decoded chunks -> rows of scores, of every model of a pass.

Owns the actor's work: loading the models, and that one which cannot be loaded, fails or has no room loses its own rows
and not those of the others. Refuses to know where rows come from or go to; how a model is run is `pipelines.engine`'s.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil
import pyarrow as pa
import torch

from pipelines.cells.column import Column
from pipelines.messages import error_line
from pipelines.models import mirror
from pipelines.models.engine import Engine, NoRoomError, free_memory, is_device_fault, is_out_of_memory, keep_memory
from pipelines.models.ranking import Scores, averaged
from pipelines.records import ABSENT_MODEL, ABSENT_SHARD, FAILED_MODEL, FAILED_SHARD, NON_FINITE, SCORES
from pipelines.walk.passes import PassConfig

_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AssertionError)
"""What a model raises that is not made for its images, or cannot be compiled here."""


@dataclass(frozen=True, slots=True)
class _NoModel:
    """Stands in the place of a model; `kind` is FAILED_MODEL or ABSENT_MODEL."""

    kind: int
    reason: str


_Model = tuple[Engine, ...]
"""One engine, or those of an ensemble's members."""


class Scorer:
    """Holds every model of a pass on one device and scores decoded chunks with each of them."""

    def __init__(self, config: PassConfig) -> None:
        self._config = config
        self._device = torch.device(config.device)
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # an actor a core beats one actor with all cores
        torch.zeros(1, device=self._device)  # a device that is not there or sick fails here, before any model
        self._before = _resident()
        self._models: list[_Model | _NoModel] = []
        for column in config.columns:
            self._models.append(self._load(column))
        keep_memory(self._device)  # not before: what loading takes is not what models hold

    @property
    def _models_held(self) -> int:
        return sum(len(model) for model in self._models if not isinstance(model, _NoModel))

    def _load(self, column: Column) -> _Model | _NoModel:
        """The model, or why there is none: that loses its own rows, and not those of the others."""
        try:
            model = tuple(self._engine(member) for member in column.members)
        except OSError as error:
            return _NoModel(ABSENT_MODEL, str(error))
        except (*_FAULTS, MemoryError) as error:
            if is_device_fault(error):
                raise
            return self._refused(error, others=self._models_held > 0)
        if self._models_held and self._is_too_full():
            return self._refused(NoRoomError(), others=True)
        return model

    def _engine(self, member: Column) -> Engine:
        network = mirror.load(member.card, member.file)
        return Engine(network, member.card.preprocessing, member.settings, self._device, member.top, member.subset)

    def _is_too_full(self) -> bool:
        allowed = self._config.memory
        return allowed is not None and _resident() - self._before > allowed

    def _refused(self, error: Exception, *, others: bool) -> _NoModel:
        """What stands in the place of a model that `error` came from; `others` says whether it was not alone."""
        if not is_out_of_memory(error):
            return _NoModel(FAILED_MODEL, _said(error))
        free_memory(self._device)
        if others:  # another round runs it in a pass of its own
            return _NoModel(ABSENT_MODEL, "no room beside the others")
        return _NoModel(FAILED_MODEL, "out of memory")

    def __call__(self, decoded: pa.Table) -> Iterator[pa.Table]:
        """Score each chunk of `decoded` (see `decode.decoded_schema`) with each model, as SCORES tables."""
        for chunk in decoded.to_pylist():
            if chunk["failure"] is not None:
                kind = ABSENT_SHARD if chunk["transient"] else FAILED_SHARD
                yield from (_failed(chunk, position, kind, chunk["failure"]) for position in range(len(self._models)))
                continue
            # All before the first one's scores are waited for: a GPU is kept busy so.
            launched = [self._launch(chunk, position) for position in range(len(self._models))]
            for position, wait in enumerate(launched):
                yield (
                    _failed(chunk, position, wait.kind, wait.reason)
                    if isinstance(wait, _NoModel)
                    else rows_of(chunk, position, wait(), self._errors(chunk, position))
                )

    def _errors(self, chunk: dict, position: int) -> Sequence[str | None]:
        """Why rows have no pixels: of an ensemble's members all need theirs."""
        places = sorted({self._config.views.index(member.view) for member in self._config.columns[position].members})
        return [
            next(filter(None, reasons), None) for reasons in zip(*(chunk[f"errors_{i}"] for i in places), strict=True)
        ]

    def _launch(self, chunk: dict, position: int) -> Callable[[], Scores] | _NoModel:
        model, column = self._models[position], self._config.columns[position]
        if isinstance(model, _NoModel):
            return model
        alone = self._models_held == 1
        try:
            waiting = [
                engine.launch(self._pixels(chunk, member), alone=alone)
                for engine, member in zip(model, column.members, strict=True)
            ]
            return waiting[0] if len(waiting) == 1 else partial(_averaged, waiting, column)
        except (*_FAULTS, MemoryError) as error:
            if is_device_fault(error):
                raise  # this actor is of no more use, and no model is to blame
            reason = error.with_traceback(None)  # its frames hold what the model has computed
        del model
        self._models[position] = _NoModel(ABSENT_MODEL, "")  # let go of, before memory is given back
        self._models[position] = refused = self._refused(reason, others=self._models_held > 0)
        return refused

    def _pixels(self, chunk: dict, member: Column) -> np.ndarray:
        size = member.card.preprocessing.size
        content = chunk[f"pixels_{self._config.views.index(member.view)}"]
        return np.frombuffer(content, np.uint8).reshape(-1, size, size, 3)


def _averaged(waiting: Sequence[Callable[[], Scores]], column: Column) -> Scores:
    return averaged([wait() for wait in waiting], column.top, column.subset)


def _said(error: Exception) -> str:
    """In one line: what compilers print has pages, and the first paragraph says it."""
    if isinstance(error, ValueError):
        return " ".join(str(error).partition("\n\n")[0].split())
    return error_line(error, first_paragraph=True)


def _resident() -> int:
    """Bytes of memory that this process has in use."""
    return psutil.Process().memory_info().rss


def rows_of(chunk: dict, position: int, scores: Scores, unread: Sequence[str | None]) -> pa.Table:
    """SCORES rows of a chunk by the model at a position; `unread` says of each row why it has no pixels."""
    rows = len(chunk["keys"])
    label_prob = _label_probabilities(chunk["labels"], scores.probs)
    errors = _with_non_finite(unread, scores.sq_prob)
    bad = np.array([error is not None for error in errors])
    last = np.zeros(rows, bool)
    last[-1] = chunk["last"]
    columns = {
        "model": np.full(rows, position, np.int32),
        "shard": np.full(rows, chunk["shard"], np.int32),
        "last": last,
        "index": np.arange(chunk["start"], chunk["start"] + rows, dtype=np.int32),
        "key": chunk["keys"],
        "label": chunk["labels"],
        "classes": _lists(scores.classes.astype(np.int16), bad),
        "probs": _lists(scores.top_probs, bad),
        "label_prob": pa.array(label_prob.data, mask=label_prob.mask | bad, type=pa.float32()),
        "sq_prob": pa.array(scores.sq_prob, mask=bad, type=pa.float32()),
        "logsumexp": pa.array(scores.logsumexp, mask=bad, type=pa.float32()),
        "digest": pa.array(chunk["digests"], pa.uint64()),
        "error": errors,
        "offset": pa.array(chunk["offsets"], pa.int64(), mask=~bad),
        "seconds": pa.array([scores.seconds and scores.seconds / rows] * rows, pa.float32()),
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


def _failed(chunk: dict, position: int, kind: int, reason: str) -> pa.Table:
    """The one row that stands for what cannot be scored: `kind` is its index."""
    row = {"model": position, "shard": chunk["shard"], "last": False, "index": kind, "error": reason}
    return pa.Table.from_pylist([row], schema=SCORES)
