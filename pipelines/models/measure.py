"""How fast a model is with some settings on one device, and whether it still says the same.

Owns what is measured: one process's images a second in the model alone, on synthetic pictures. The model is the bare
architecture, since speed does not depend on what was learnt; its norms are set by the pictures, so that its classes
differ from picture to picture and a comparison of them means something. Refuses to choose: `pipelines.tune` does.
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

_PICTURES = {"cpu": 32, "cuda": 256}
"""As many as the largest batch that is tried holds."""
_SETTING_PICTURES = 8
_TILES = 4


@dataclass(frozen=True, slots=True)
class Likeness:
    """Scores beside those of plain fp32: `agreeing` of `pictures` in top-1, largest difference of a probability."""

    agreeing: int
    pictures: int
    difference: float


class Measurer:
    """One process's model of `card` on `device`, ready to be run with one settings after another."""

    def __init__(self, card: Card, device: str) -> None:
        self._card, self._device = card, torch.device(device)
        if device == "cpu":
            torch.set_num_threads(1)  # as in an actor of the walk
        keep_memory(self._device)
        self._pixels = _pictures(_PICTURES[device], card.preprocessing.size)
        self._network = _bare(card, self._pixels[:_SETTING_PICTURES])
        self._engine = self._made(PLAIN)
        self._plain = self._engine.launch(self._pixels)()

    def _made(self, settings: Settings) -> Engine:
        return Engine(copy.deepcopy(self._network), self._card.preprocessing, settings, self._device, top=1)

    def prepare(self, settings: Settings) -> Likeness | str:
        """Take on `settings` and warm up.

        Returns:
            What its scores are like, or why it cannot be run here.
        """
        del self._engine  # there may be no room for two
        try:
            self._engine = self._made(settings)
            scores = self._engine.launch(self._pixels)()
        except (RuntimeError, ValueError, MemoryError) as error:
            self._engine = self._made(PLAIN)
            return error_line(error, first_paragraph=True)
        if self._engine.batch < settings.batch_size:
            return f"no room for batches of {settings.batch_size}"
        agreeing = int((scores.classes == self._plain.classes).sum())
        return Likeness(agreeing, len(self._pixels), float(np.abs(scores.probs - self._plain.probs).max()))

    def measure(self, seconds: float) -> float:
        """Images a second, over `seconds` at least; on a CPU of the time in which this process had its core.

        What else runs on the machine then slows no candidate more than another, but for the caches that it takes.
        """
        clock = time.process_time if self._device.type == "cpu" else time.perf_counter
        waiting = self._engine.launch(self._pixels)
        images, started = 0, clock()
        while (passed := clock() - started) < seconds or not images:
            following = self._engine.launch(self._pixels)  # before the last is waited for, as in the walk
            waiting()
            waiting, images = following, images + len(self._pixels)
        return images / passed

    def hardware(self) -> str:
        """What this process runs on."""
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        return _processor()


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _pictures(many: int, size: int) -> np.ndarray:
    """Coloured tiles (B, H, W, 3): pictures of noise would all look alike to a model."""
    tile = -(-size // _TILES)
    coarse = np.random.default_rng(0).integers(0, 256, (many, _TILES, _TILES, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(tile, axis=1).repeat(tile, axis=2)[:, :size, :size])


def _bare(card: Card, pixels_BHWC: np.ndarray) -> nn.Module:
    """The architecture, its norms as if trained on these pictures and none of its branches switched off."""
    torch.manual_seed(0)
    network = card.network.build(card.num_classes)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.ones_(norm.weight)  # the last one of a block starts as zero, for training's sake
            norm.momentum = 1.0
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (card.preprocessing.mean, card.preprocessing.std))
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(pixels_BHWC), mean, std, is_bgr=False))
    return network.eval()
