"""A model that learns, on one device: a worker's share of a batch -> gradients, averaged over workers -> a step.

Owns the optimiser, precision, accumulation over micro-batches, what MixUp, CutMix and label smoothing do to targets,
the moving average, and that a loss which is not finite stops before it has touched a weight. Whatever is by chance
depends on the seed, the step and the micro-batch, so that no generator's state has to be kept. Refuses to know where
batches come from, and when to stop.

Batch norm takes its statistics over a micro-batch, whose place in the batch is fixed: so many workers, the same
statistics. Running statistics, which only evaluation uses, are averaged over the workers at every step.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.models.engine import AUTOCAST, normalise, set_arithmetic
from pipelines.records import Precision
from pipelines.training.batches import IGNORED, SampleBatch
from pipelines.training.recipe import Recipe
from zoo.preprocessing import Preprocessing


class NonFiniteLossError(ValueError):
    """A loss was no number; the message has the keys of its images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a worker computes: one of `workers`, the `rank`-th, on `device`, with chance of `seed`."""

    device: str
    precision: Precision
    channels_last: bool
    seed: int
    rank: int = 0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step was like for this worker: the sums of losses and images, and keys of a loss that is no number."""

    loss: float
    images: int
    non_finite: tuple[str, ...] = ()


class Learner:
    """A network in training with its optimiser; `network` may be evaluated between steps."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, recipe: Recipe, how: How) -> None:
        self._how, self._recipe, self._device = how, recipe, torch.device(how.device)
        self._layout = torch.channels_last if how.channels_last else torch.contiguous_format
        self.network = network.to(self._device, memory_format=self._layout).train()  # pyright: ignore
        self._whole = self._distributed() if how.workers > 1 else self.network
        self._optimiser = torch.optim.SGD(_groups(network, recipe), lr=recipe.peak, momentum=recipe.momentum)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=how.precision == "fp16")
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        self._is_bgr = preprocessing.channels == "BGR"
        self.average = {name: value.clone() for name, value in self._floats()} if recipe.ema else None

    def _distributed(self) -> DistributedDataParallel:
        on_gpu = [self._device] if self._device.type == "cuda" else None
        return DistributedDataParallel(self.network, device_ids=on_gpu, broadcast_buffers=False)

    def gradients(self, batch: SampleBatch, stage: str) -> StepResult:
        """Accumulate the gradients of this worker's share of a batch; the weights stay as they are."""
        self._optimiser.zero_grad(set_to_none=True)
        set_arithmetic(self._how.precision, self._device)
        size, loss, images, non_finite = self._recipe.seen_at_once, 0.0, 0, ()
        starts = range(0, len(batch.labels), size)
        for number, start in enumerate(starts):
            self._seed(batch.step, stage, self._how.rank * len(starts) + number)
            with self._together(last=number == len(starts) - 1):
                summed = self._loss(batch, slice(start, start + size))
                self._scaler.scale(summed / self._recipe.batch * self._how.workers).backward()
            images += int((batch.labels[start : start + size] != IGNORED).sum())
            loss += (value := summed.item())
            if not math.isfinite(value):  # not a reason to leave: other workers wait for the last one's gradients
                non_finite += batch.keys[start : start + size]
        return StepResult(loss, images, non_finite)

    def _together(self, *, last: bool) -> AbstractContextManager[None]:
        """Gradients travel between workers once a step, with the last micro-batch."""
        return nullcontext() if last or self._how.workers == 1 else self._whole.no_sync()  # pyright: ignore

    def _seed(self, step: int, stage: str, micro_batch: int) -> None:
        mixed = hash((self._how.seed, *stage.encode(), step, micro_batch))  # of numbers alone: no salt in it
        torch.manual_seed(mixed & (2**63 - 1))

    def _loss(self, batch: SampleBatch, part: slice) -> Tensor:
        """The sum of the losses of a micro-batch."""
        pixels_BHWC = torch.from_numpy(batch.pixels[part]).to(self._device, non_blocking=True)
        labels_B = torch.from_numpy(batch.labels[part]).to(self._device, non_blocking=True)
        x_BCHW = normalise(pixels_BHWC, self._mean, self._std, is_bgr=self._is_bgr)
        x_BCHW = x_BCHW.contiguous(memory_format=self._layout)
        x_BCHW, other_B, share = _mixed(x_BCHW, labels_B, self._recipe)
        kind = AUTOCAST.get(self._how.precision)
        with torch.autocast(self._device.type, kind or torch.bfloat16, enabled=kind is not None):
            logits_BN = self._whole(x_BCHW)
        return share * self._entropy(logits_BN, labels_B) + (1 - share) * self._entropy(logits_BN, other_B)

    def _entropy(self, logits_BN: Tensor, labels_B: Tensor) -> Tensor:
        smoothing = self._recipe.label_smoothing
        # Double where the model is: a check of gradients against many workers.
        logits_BN = logits_BN if logits_BN.dtype == torch.float64 else logits_BN.float()
        return F.cross_entropy(logits_BN, labels_B, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")

    def step(self, lr: float) -> None:
        """Move the weights along the gradients at this learning rate."""
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        if self._recipe.clip is not None:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        if self._how.workers > 1:
            self._average_buffers()
        if self.average is not None:
            self._move_average()

    @torch.no_grad()
    def _average_buffers(self) -> None:
        buffers = [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        if not buffers:
            return
        flat = torch.cat([buffer.reshape(-1) for buffer in buffers]) / self._how.workers
        dist.all_reduce(flat)
        for buffer, part in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(part.view_as(buffer))

    @torch.no_grad()
    def _move_average(self) -> None:
        assert self.average is not None and self._recipe.ema is not None
        for name, value in self._floats():
            self.average[name].lerp_(value, 1 - self._recipe.ema)

    def _floats(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in self.network.state_dict().items() if value.is_floating_point())

    def result(self) -> dict[str, Tensor]:
        """The weights to evaluate and publish: the moving average where there is one."""
        return self.network.state_dict() | (self.average or {})

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self.average,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            for name, value in state["average"].items():
                self.average[name].copy_(value)


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters with and without weight decay."""
    if recipe.decay_norm_and_bias:
        return [{"params": list(network.parameters()), "weight_decay": recipe.weight_decay}]
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _mixed(x_BCHW: Tensor, labels_B: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor, float]:
    """Images mixed with others of the micro-batch, the labels of those, and the share of their own."""
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(recipe, kind)]
    if not kinds:
        return x_BCHW, labels_B, 1.0
    kind = kinds[int(torch.randint(len(kinds), ()))]
    alpha = getattr(recipe, kind)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(labels_B), device=labels_B.device)
    if kind == "mixup":
        return share * x_BCHW + (1 - share) * x_BCHW[order], labels_B[order], share
    rows, columns = _cut(x_BCHW.shape[2], x_BCHW.shape[3], share)
    x_BCHW = x_BCHW.clone()
    x_BCHW[:, :, rows, columns] = x_BCHW[order][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return x_BCHW, labels_B[order], 1 - area / (x_BCHW.shape[2] * x_BCHW.shape[3])


def _cut(height: int, width: int, share: float) -> tuple[slice, slice]:
    """A box of 1 - share of the area around a random place, cut off at the borders."""
    half_h, half_w = (round(side * (1 - share) ** 0.5 / 2) for side in (height, width))
    y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
    return slice(max(0, y - half_h), min(height, y + half_h)), slice(max(0, x - half_w), min(width, x + half_w))
