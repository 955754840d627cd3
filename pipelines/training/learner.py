"""One worker's side of SGD: its samples of a batch -> gradients, averaged over the workers -> one step of the weights.

Micro-batches accumulate; MixUp, CutMix and label smoothing act on the targets; a loss that is not finite is reported
before it can move a weight. All random numbers are seeded by the seed, the step and the micro-batch, so no generator's
state has to be saved. Where batches come from and when to stop is decided elsewhere, see `loader` and `agreement`.

Batch norm takes its statistics over a micro-batch, whose slots in the batch are fixed: the same number of workers gives
the same statistics. Running statistics, which only evaluation uses, are averaged over the workers after every step.
"""

import math
from collections.abc import Iterator
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
from pipelines.training.checkpoint import LearnerState
from pipelines.training.recipe import Recipe
from pipelines.training.sampling.batches import IGNORED, SampleBatch
from zoo.preprocessing import Preprocessing


class NonFiniteLossError(ValueError):
    """A loss is infinite or NaN; the message has the keys of its images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeSettings:
    """How and where one worker computes.

    Args:
        device: of the worker, as PyTorch spells it.
        precision: arithmetic of the forward and backward pass.
        channels_last: memory layout.
        seed: of MixUp, CutMix and DropBlock.
        rank: of the worker, counted from 0.
        world_size: the number of workers.
    """

    device: str
    precision: Precision
    channels_last: bool
    seed: int
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one worker's gradients of a step come from.

    Args:
        loss_sum: cross-entropy summed over its images, in nats.
        images: the number of images that count.
        non_finite: keys of the images in micro-batches whose loss is infinite or NaN.
    """

    loss_sum: float
    images: int
    non_finite: tuple[str, ...] = ()


class Learner:
    """A network in training and its optimiser; `network` may be evaluated between steps."""

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, recipe: Recipe, settings: ComputeSettings
    ) -> None:
        self._settings, self._recipe, self._device = settings, recipe, torch.device(settings.device)
        self._layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.network = network.to(self._device, memory_format=self._layout).train()  # pyright: ignore
        self._parallel = self._distributed() if settings.world_size > 1 else self.network
        self._optimiser = torch.optim.SGD(_groups(network, recipe), lr=recipe.peak_lr, momentum=recipe.momentum)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=settings.precision == "fp16")
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        self._is_bgr = preprocessing.channels == "BGR"
        self.average = {name: value.clone() for name, value in self._float_tensors()} if recipe.ema else None

    def _distributed(self) -> DistributedDataParallel:
        on_gpu = [self._device] if self._device.type == "cuda" else None
        return DistributedDataParallel(self.network, device_ids=on_gpu, broadcast_buffers=False)

    def gradients(self, batch: SampleBatch, stage: str) -> StepResult:
        """Accumulate the gradients of this worker's samples of a batch; the weights stay as they are."""
        self._optimiser.zero_grad(set_to_none=True)
        set_arithmetic(self._settings.precision, self._device)
        size, loss_sum, images, non_finite = self._recipe.micro_batch_size, 0.0, 0, ()
        starts = range(0, len(batch.labels), size)
        for number, start in enumerate(starts):
            self._seed(batch.step, stage, self._settings.rank * len(starts) + number)
            with self._gradient_sync(last=number == len(starts) - 1):
                loss = self._loss_sum(batch, slice(start, start + size))
                self._scaler.scale(loss / self._recipe.batch * self._settings.world_size).backward()
            images += int((batch.labels[start : start + size] != IGNORED).sum())
            loss_sum += (value := loss.item())
            if not math.isfinite(value):  # no reason to return: the other workers wait for the last gradients
                non_finite += batch.keys[start : start + size]
        return StepResult(loss_sum, images, non_finite)

    def _gradient_sync(self, *, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over the workers once a step, with the last micro-batch."""
        is_alone = self._settings.world_size == 1
        return nullcontext() if last or is_alone else self._parallel.no_sync()  # pyright: ignore

    def _seed(self, step: int, stage: str, micro_batch: int) -> None:
        mixed = hash((self._settings.seed, *stage.encode(), step, micro_batch))  # hashes of integers are not salted
        torch.manual_seed(mixed & (2**63 - 1))

    def _loss_sum(self, batch: SampleBatch, rows: slice) -> Tensor:
        """The loss of a micro-batch, summed over its images."""
        pixels_BHWC = torch.from_numpy(batch.pixels[rows]).to(self._device, non_blocking=True)
        labels_B = torch.from_numpy(batch.labels[rows]).to(self._device, non_blocking=True)
        x_BCHW = normalise(pixels_BHWC, self._mean, self._std, is_bgr=self._is_bgr)
        x_BCHW = x_BCHW.contiguous(memory_format=self._layout)
        x_BCHW, other_B, weight = _mix(x_BCHW, labels_B, self._recipe)
        kind = AUTOCAST.get(self._settings.precision)
        with torch.autocast(self._device.type, kind or torch.bfloat16, enabled=kind is not None):
            logits_BN = self._parallel(x_BCHW)
        return weight * self._entropy(logits_BN, labels_B) + (1 - weight) * self._entropy(logits_BN, other_B)

    def _entropy(self, logits_BN: Tensor, labels_B: Tensor) -> Tensor:
        smoothing = self._recipe.label_smoothing
        # float64 stays: with a model in float64, gradients can be compared between numbers of workers.
        logits_BN = logits_BN if logits_BN.dtype == torch.float64 else logits_BN.float()
        return F.cross_entropy(logits_BN, labels_B, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")

    def step(self, lr: float) -> None:
        """Take one SGD step at this learning rate; clip the gradients before, move the average of the weights after."""
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        if self._recipe.clip is not None:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        if self._settings.world_size > 1:
            self._average_buffers()
        if self.average is not None:
            self._move_average()

    @torch.no_grad()
    def _average_buffers(self) -> None:
        buffers = [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        if not buffers:
            return
        flat = torch.cat([buffer.reshape(-1) for buffer in buffers]) / self._settings.world_size
        dist.all_reduce(flat)
        for buffer, values in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))

    @torch.no_grad()
    def _move_average(self) -> None:
        assert self.average is not None and self._recipe.ema is not None
        for name, value in self._float_tensors():
            self.average[name].lerp_(value, 1 - self._recipe.ema)

    def _float_tensors(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in self.network.state_dict().items() if value.is_floating_point())

    def weights(self) -> dict[str, Tensor]:
        """The weights to evaluate and publish: the moving average where the recipe has one."""
        return self.state().weights

    def state(self) -> LearnerState:
        """Everything that the next step depends on."""
        return LearnerState(
            network=self.network.state_dict(),
            optimiser=self._optimiser.state_dict(),
            scaler=self._scaler.state_dict(),
            average=self.average,
        )

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned."""
        self.network.load_state_dict(state.network)
        self._optimiser.load_state_dict(state.optimiser)
        if state.scaler:
            self._scaler.load_state_dict(state.scaler)
        if self.average is not None:
            assert state.average is not None
            for name, value in state.average.items():
                self.average[name].copy_(value)


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters with and without weight decay."""
    if recipe.decay_norm_and_bias:
        return [{"params": list(network.parameters()), "weight_decay": recipe.weight_decay}]
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _mix(x_BCHW: Tensor, labels_B: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor, float]:
    """MixUp or CutMix within a micro-batch.

    Returns:
        The mixed images, the labels of the images mixed in, and the weight of an image's own label.
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(recipe, kind)]
    if not kinds:
        return x_BCHW, labels_B, 1.0
    kind = kinds[int(torch.randint(len(kinds), ()))]
    alpha = getattr(recipe, kind)
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(labels_B), device=labels_B.device)
    if kind == "mixup":
        return weight * x_BCHW + (1 - weight) * x_BCHW[order], labels_B[order], weight
    rows, columns = _box(x_BCHW.shape[2], x_BCHW.shape[3], weight)
    x_BCHW = x_BCHW.clone()
    x_BCHW[:, :, rows, columns] = x_BCHW[order][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return x_BCHW, labels_B[order], 1 - area / (x_BCHW.shape[2] * x_BCHW.shape[3])


def _box(height: int, width: int, weight: float) -> tuple[slice, slice]:
    """Rows and columns of a box of 1 - weight of the area around a random point, clipped at the borders."""
    half_h, half_w = (round(side * (1 - weight) ** 0.5 / 2) for side in (height, width))
    y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
    return slice(max(0, y - half_h), min(height, y + half_h)), slice(max(0, x - half_w), min(width, x + half_w))
