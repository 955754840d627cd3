"""The speed of a model with some settings on one device, and how its scores differ from those of plain settings.

The speed is the images per second of one process in the model alone, on synthetic images. The model is the bare
architecture, since speed does not depend on the weights. Its norms are set by the images, so that its classes differ
from image to image and a comparison of them means something.
"""

import copy
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipelines.messages import error_line
from pipelines.models.engine import Engine, keep_memory, normalise
from pipelines.records import PLAIN, Settings
from zoo.cards import Card

_IMAGES = {"cpu": 32, "cuda": 256}
"""The size of the largest batch that is tried."""
_NORM_IMAGES = 8
_TILES = 4


@dataclass(frozen=True, slots=True)
class Likeness:
    """Scores compared with plain fp32: `agreeing` of `images` have the same top-1 class.

    `difference` is the largest difference of a probability.
    """

    agreeing: int
    images: int
    difference: float


class Measurer:
    """The model of `card` on `device` in one process, to be run with one settings after another."""

    def __init__(self, card: Card, device: str) -> None:
        self._card, self._device = card, torch.device(device)
        if device == "cpu":
            torch.set_num_threads(1)  # as in an actor of the walk
        keep_memory(self._device)
        self._pixels = _images(_IMAGES[device], card.preprocessing.size)
        self._network = _bare(card, self._pixels[:_NORM_IMAGES])
        self._engine = self._made(PLAIN)
        self._plain = self._engine.launch(self._pixels)()

    def _made(self, settings: Settings) -> Engine:
        return Engine(copy.deepcopy(self._network), self._card.preprocessing, settings, self._device, top=1)

    def prepare(self, settings: Settings) -> Likeness | str:
        """Switch to `settings` and warm up.

        Returns:
            How its scores compare with plain fp32, or the reason why it cannot run here.
        """
        del self._engine  # there may be no memory for two
        try:
            self._engine = self._made(settings)
            scores = self._engine.launch(self._pixels)()
        except (RuntimeError, ValueError, MemoryError) as error:
            self._engine = self._made(PLAIN)
            return error_line(error, first_paragraph=True)
        if self._engine.batch < settings.batch_size:
            return f"no memory for batches of {settings.batch_size}"
        agreeing = int((scores.classes == self._plain.classes).sum())
        return Likeness(agreeing, len(self._pixels), float(np.abs(scores.probs - self._plain.probs).max()))

    def measure(self, seconds: float) -> float:
        """Images per second, measured over at least `seconds` seconds.

        On a CPU these are seconds of CPU time, so other processes affect all candidates alike, except through shared
        caches.
        """
        clock = time.process_time if self._device.type == "cpu" else time.perf_counter
        waiting = self._engine.launch(self._pixels)
        images, started = 0, clock()
        while (passed := clock() - started) < seconds or not images:
            following = self._engine.launch(self._pixels)  # before it waits for the last, as in the walk
            waiting()
            waiting, images = following, images + len(self._pixels)
        return images / passed

    def hardware(self) -> str:
        """The name of the GPU or processor that this process runs on."""
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        return _processor()


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _images(many: int, size: int) -> np.ndarray:
    """Images of coloured tiles (B, H, W, 3): images of noise would all look alike to a model."""
    tile = -(-size // _TILES)
    coarse = np.random.default_rng(0).integers(0, 256, (many, _TILES, _TILES, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(tile, axis=1).repeat(tile, axis=2)[:, :size, :size])


def _bare(card: Card, pixels_BHWC: np.ndarray) -> nn.Module:
    """The architecture, with norms as if trained on these images and all of its branches switched on."""
    torch.manual_seed(0)
    network = card.network.build(card.num_classes)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.ones_(norm.weight)  # the last one of a block is initialised as zero, for training
            norm.momentum = 1.0
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (card.preprocessing.mean, card.preprocessing.std))
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(pixels_BHWC), mean, std, is_bgr=False))
    return network.eval()
