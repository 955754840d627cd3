"""A model on one device: uint8 pixels -> its most probable classes, as its settings say.

Every batch is padded to the same shape, and the padding is cut off again: kernels are chosen by shape, so a smaller
batch would give other low bits. Normalisation runs on the device. When memory runs out, batches are halved.
"""

import ctypes
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.models.folding import fold
from pipelines.models.ranking import Scores, ranked
from pipelines.records import Precision, Settings
from zoo.preprocessing import Preprocessing

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The type that autocast computes in, of the precisions that need it."""
_MALLOC_TRIM_AT, _MALLOC_MAPS = -1, -4
"""Parameters of glibc's mallopt (malloc.h)."""
_COMPILED_SHAPES = 1024
"""Models of one architecture share their code, and each counts as another shape of it. torch's default is 8: the ninth
model would run uncompiled, without an error."""


class NoRoomError(MemoryError):
    """The device has no memory for this model, or not for one image beside it."""


class Engine:
    """A model with its settings on a device.

    `batch` is the number of images that it runs at once: its settings' batch size, or fewer after memory ran out.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        settings: Settings,
        device: torch.device,
        top: int,
        subset: tuple[int, ...] | None = None,
    ) -> None:
        self.batch = settings.batch_size
        self._device, self._settings, self._top = device, settings, top
        self._whole = _Whole(network.eval(), preprocessing, settings, subset)
        if settings.fold:
            fold(network, preprocessing.size)
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._whole.to(device)
        self._call = _compiled(self._whole, device) if settings.compile else self._whole
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._warm = False

    def launch(self, pixels_RHWC: np.ndarray, *, alone: bool = True) -> Callable[[], Scores]:
        """Start to score uint8 images (R, H, W, 3).

        On a GPU several models can be launched before one waits for the first one's scores, so that copies and kernels
        overlap. When memory runs out, caches are freed; when it does again, batches are halved for good. Beside other
        models they are not, since scores must not depend on what else the device held.

        Args:
            pixels_RHWC: the images.
            alone: whether no other model uses the device.

        Returns:
            A function that waits for the scores.

        Raises:
            NoRoomError: if there is no memory for one image, or, beside other models, for a batch.
        """
        for attempt in count():
            try:
                return self._launch(pixels_RHWC)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if attempt % 2 and not alone:
                raise NoRoomError("out of memory beside other models")
            if attempt % 2 and self.batch == 1:
                break
            if attempt % 2:
                self.batch = -(-self.batch // 2)
            free_memory(self._device)
        raise NoRoomError("out of memory with one image at a time")

    @torch.inference_mode()
    def _launch(self, pixels_RHWC: np.ndarray) -> Callable[[], Scores]:
        set_arithmetic(self._settings.precision, self._device)
        clock = _Clock(self._device)
        starts = range(0, len(pixels_RHWC), self.batch)
        parts = [self._part(pixels_RHWC[start : start + self.batch]) for start in starts]
        probs_RN, logsumexp_R = (torch.cat(values) for values in zip(*parts, strict=True))
        made = ranked(probs_RN, logsumexp_R, self._top, self._whole.subset)
        on_host = [tensor.to("cpu", non_blocking=True) for tensor in made]
        clock.stop()
        warm, self._warm = self._warm, True

        def wait() -> Scores:
            seconds = clock.seconds()
            return Scores(*(tensor.numpy() for tensor in on_host), seconds=seconds if warm else None)

        return wait

    def _part(self, pixels_BHWC: np.ndarray) -> tuple[Tensor, Tensor]:
        """Probabilities (B, N) and logsumexp (B) of the images of one batch."""
        shape = (self.batch, *pixels_BHWC.shape[1:])
        padded = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._copies is not None)
        padded.numpy()[: len(pixels_BHWC)] = pixels_BHWC
        probs_BN, logsumexp_B = self._call(self._to_device(padded))
        return probs_BN[: len(pixels_BHWC)], logsumexp_B[: len(pixels_BHWC)]

    def _to_device(self, pinned: Tensor) -> Tensor:
        """Copy a batch on a stream of its own, while the device computes on what was launched before."""
        if self._copies is None:
            return pinned
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            copy = pinned.to(self._device, non_blocking=True)
        computing.wait_stream(self._copies)
        copy.record_stream(computing)
        return copy


class _Whole(nn.Module):
    """From uint8 images (B, H, W, 3) to probabilities (B, N) and logsumexp (B), to be compiled as one graph.

    Classes outside of `subset` have probability zero, as if their logits were minus infinity.
    """

    mean: Tensor
    std: Tensor
    subset: Tensor | None

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, settings: Settings, subset: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))
        self.register_buffer("subset", None if subset is None else torch.tensor(subset))
        self.is_bgr = preprocessing.channels == "BGR"
        self.is_channels_last = settings.channels_last
        self.autocast = AUTOCAST.get(settings.precision)

    def forward(self, pixels_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        x_BCHW = normalise(pixels_BHWC, self.mean, self.std, is_bgr=self.is_bgr)
        if self.is_channels_last:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        elif x_BCHW.is_cuda:
            # Not on a CPU: it is faster with the layout of the pixels, whatever the layout of the weights.
            x_BCHW = x_BCHW.contiguous()
        with torch.autocast(x_BCHW.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            logits_BN = self.network(x_BCHW)
        logits_BN = logits_BN.float()
        if self.subset is None:
            return logits_BN.softmax(dim=1), logits_BN.logsumexp(dim=1)
        some_BS = logits_BN[:, self.subset]
        probs_BN = torch.zeros_like(logits_BN).index_copy(1, self.subset, some_BS.softmax(dim=1))
        return probs_BN, some_BS.logsumexp(dim=1)


def normalise(pixels_BHWC: Tensor, mean: Tensor, std: Tensor, *, is_bgr: bool) -> Tensor:
    """uint8 RGB pixels (B, H, W, 3) -> float32 (B, C, H, W) in the card's channel order, mean and std."""
    x_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32).div(255)
    if is_bgr:
        x_BCHW = x_BCHW.flip(1)
    return x_BCHW.sub(mean).div(std)


def _compiled(whole: nn.Module, device: torch.device) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The whole model as one graph, or an error: a part that ran uncompiled would be slow, and nobody would know."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    dynamo.recompile_limit = dynamo.accumulated_recompile_limit = _COMPILED_SHAPES
    dynamo.fail_on_recompile_limit_hit = True
    inductor.deterministic = True  # no kernel is chosen by timing
    if device.type == "cpu":
        inductor.compile_threads = 1  # each core has an actor that compiles
    return torch.compile(whole, fullgraph=True, dynamic=False)


def set_arithmetic(precision: Precision, device: torch.device) -> None:
    """Make fp32 mean fp32: no TF32 unless `precision` asks for it, and no kernel chosen by timing.

    These are settings of the whole process, so they are made before each batch.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = False


class _Clock:
    """Measures the seconds of work of a device from now to `stop`."""

    def __init__(self, device: torch.device) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
        self._times: list[float] = []
        self._tick(0)

    def _tick(self, which: int) -> None:
        if self._events:
            self._events[which].record()
        self._times.append(time.perf_counter())

    def stop(self) -> None:
        self._tick(1)

    def seconds(self) -> float:
        """The seconds, once the device has reached `stop`."""
        if not self._events:
            return self._times[1] - self._times[0]
        self._events[1].synchronize()
        return self._events[0].elapsed_time(self._events[1]) / 1000


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that the memory of the device or machine was not enough."""
    # torch's allocator for the CPU raises a plain RuntimeError.
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(sign in str(error) for sign in ("can't allocate memory", "std::bad_alloc", "_STATUS_ALLOC_FAILED"))


def is_device_fault(error: BaseException) -> bool:
    """Whether `error` means that no model can run on the device any more; running out of memory does not."""
    is_broken = isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
    return is_broken and not is_out_of_memory(error)


def keep_memory(device: torch.device) -> None:
    """Let this process keep freed memory for the next batch, on a CPU.

    glibc returns large blocks to the system at once. Getting them back for every batch, page by page and zeroed, took
    a quarter of a CPU's time. Other C libraries are left alone.
    """
    if device.type == "cpu" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_MALLOC_MAPS, 0)
        mallopt(_MALLOC_TRIM_AT, 2**31 - 1)


def free_memory(device: torch.device) -> None:
    """Return memory that torch, or the allocator below it, keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
