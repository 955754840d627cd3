"""Arrays -> each model's most probable classes: the one place where models run.

Owns the actor's work: normalisation on the device, batches of one fixed shape, softmax in float32, the `top` classes
with ties by class index. Refuses to know where rows come from or go to. Every batch is padded to the same shape and
the padding cut off, because kernels are chosen by shape: a ragged batch would give other low bits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipelines import mirror
from pipelines.cells import Column
from pipelines.records import ABSENT_MODEL, ABSENT_SHARD, FAILED_MODEL, FAILED_SHARD, SCORES, Precision, View
from zoo.cards import Card
from zoo.preprocessing import Preprocessing
from zoo.wanted import Wanted

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerConfig:
    """What a scorer runs: the models of a pass with their settings, and what pixels a chunk holds for them.

    `views` are those of `decode.decode_chunks`; `chunk` pictures at most are in a chunk, a multiple of all batch sizes;
    `memory` is how many bytes the models may take, None where the device says so itself.
    """

    columns: tuple[Column, ...]
    views: tuple[View, ...]
    chunk: int
    device: str
    memory: int | None


Model = Callable[[torch.Tensor], torch.Tensor]
"""From normalised images (B, C, H, W) to logits (B, N)."""


@dataclass(frozen=True, slots=True)
class _NoModel:
    """Stands in the place of a model; `kind` is FAILED_MODEL or ABSENT_MODEL."""

    kind: int
    reason: str


class Scorer:
    """Holds every model of a pass on one device and scores decoded chunks with each of them."""

    def __init__(self, config: ScorerConfig) -> None:
        self._config = config
        self._device = torch.device(config.device)
        _exact_kernels(self._device)
        self._models = [self._load(column.card, column.file) for column in config.columns]

    def _load(self, card: Card, file: Wanted) -> Model | _NoModel:
        """The model, or why there is none: that loses its own rows, and not those of the others."""
        try:
            return mirror.load(card, file).to(self._device)
        except ValueError as error:
            return _NoModel(FAILED_MODEL, str(error))
        except OSError as error:
            return _NoModel(ABSENT_MODEL, str(error))

    def __call__(self, decoded: pa.Table) -> Iterator[pa.Table]:
        """Score each chunk of `decoded` (see `decode.decoded_schema`) with each model, as SCORES tables."""
        for chunk in decoded.to_pylist():
            for position, model in enumerate(self._models):
                if isinstance(model, _NoModel):
                    yield _failed(chunk, position, model.kind, model.reason)
                else:
                    yield self._rows(chunk, position, model)

    def _rows(self, chunk: dict, position: int, model: Model) -> pa.Table:
        if chunk["failure"] is not None:
            return _failed(chunk, position, ABSENT_SHARD if chunk["transient"] else FAILED_SHARD, chunk["failure"])
        column = self._config.columns[position]
        size, batch = column.card.preprocessing.size, column.settings.batch_size
        content = chunk[f"pixels_{self._config.views.index(column.view)}"]
        pixels_RHWC = np.frombuffer(content, np.uint8).reshape(-1, size, size, 3)
        parts = [pixels_RHWC[start : start + batch] for start in range(0, len(pixels_RHWC), batch)]
        probs_RN = torch.cat([self._probabilities(part, model, column) for part in parts])
        return _table(chunk, position, probs_RN, column.top)

    @torch.inference_mode()
    def _probabilities(self, pixels_BHWC: np.ndarray, model: Model, column: Column) -> torch.Tensor:
        """Softmax over classes, float32 (B, N), of uint8 pixels (B, H, W, 3)."""
        batch, rows = column.settings.batch_size, len(pixels_BHWC)
        padded = np.zeros((batch, *pixels_BHWC.shape[1:]), np.uint8)
        padded[:rows] = pixels_BHWC
        x_BCHW = normalise(torch.from_numpy(padded).to(self._device), column.card.preprocessing)
        with self._autocast(column.settings.precision):
            logits_BN = model(x_BCHW)
        return logits_BN.float().softmax(dim=1)[:rows]

    def _autocast(self, precision: Precision) -> AbstractContextManager[Any]:
        kind = _AUTOCAST.get(precision)
        return torch.autocast(self._device.type, kind) if kind else nullcontext()


def normalise(pixels_BHWC: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """uint8 RGB pixels (B, H, W, 3) -> float32 (B, C, H, W) in the card's channel order, mean and std."""
    mean, std = (
        torch.tensor(values, device=pixels_BHWC.device).view(1, 3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    x_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32).div(255)
    if preprocessing.channels == "BGR":
        x_BCHW = x_BCHW.flip(1)
    return x_BCHW.sub(mean).div(std)


def _exact_kernels(device: torch.device) -> None:
    """fp32 means fp32: no TF32, and no kernel chosen by a race of timings."""
    if device.type == "cpu":
        torch.set_num_threads(1)  # an actor a core beats one actor with all cores
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False


def _table(chunk: dict, position: int, probs_BN: torch.Tensor, top: int) -> pa.Table:
    rows = len(chunk["keys"])
    sorted_BN = probs_BN.sort(dim=1, descending=True, stable=True)  # stable: ties stay in the order of classes
    classes, probs = (t[:, :top].cpu().numpy() for t in (sorted_BN.indices, sorted_BN.values))
    sq_prob = probs_BN.square().sum(dim=1).cpu().numpy()
    label_prob = _label_probabilities(chunk["labels"], probs_BN.cpu().numpy())
    errors = _with_non_finite(chunk["errors"], sq_prob)
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
        "classes": _lists(classes.astype(np.int16), bad),
        "probs": _lists(probs, bad),
        "label_prob": pa.array(label_prob.data, mask=label_prob.mask | bad, type=pa.float32()),
        "sq_prob": pa.array(sq_prob, mask=bad, type=pa.float32()),
        "error": errors,
        "offset": pa.array(chunk["offsets"], pa.int64(), mask=~bad),
        "seconds": pa.nulls(rows, pa.float32()),
    }
    return pa.table(columns, schema=SCORES)


def _label_probabilities(labels: Sequence[int | None], probs_BN: np.ndarray) -> np.ma.MaskedArray:
    index = np.array([-1 if label is None else label for label in labels])
    known = (index >= 0) & (index < probs_BN.shape[1])
    picked = probs_BN[np.arange(len(index)), np.where(known, index, 0)]
    return np.ma.MaskedArray(picked, mask=~known)


def _with_non_finite(errors: Sequence[str | None], sq_prob: np.ndarray) -> list[str | None]:
    overflowed = "non-finite scores: the model's output is not a number"
    return [error or (None if fine else overflowed) for error, fine in zip(errors, np.isfinite(sq_prob), strict=True)]


def _lists(values: np.ndarray, bad: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    fixed = pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(bad))
    return fixed.cast(pa.list_(flat.type))


def _failed(chunk: dict, position: int, kind: int, reason: str) -> pa.Table:
    """The one row that stands for what cannot be scored: `kind` is its index."""
    row = {"model": position, "shard": chunk["shard"], "last": False, "index": kind, "error": reason}
    return pa.Table.from_pylist([row], schema=SCORES)
