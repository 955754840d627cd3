"""models.engine, folding, ranking: the same scores however fast they are made, and running out of memory."""

import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from pipelines.models import engine as engine_module
from pipelines.models.engine import Engine, NoRoomError, normalise
from pipelines.models.folding import fold
from pipelines.records import Settings
from zoo.preprocessing import Preprocessing

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # the compiler's own use of it
CPU = torch.device("cpu")
SIZE, CLASSES = 12, 20
RGB = Preprocessing(size=SIZE, crop_pct=0.875, interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
PIXELS = np.random.default_rng(5).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
FOLDED = ("efficientnet_lite0", "res2next50", "resnest50d_4s2x40d", "selecsls42b", "sknet50", "ssl_resnext50_32x4d")


class Small(nn.Module):
    """A convolution, a norm, a classifier: compiles in a second."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.conv = nn.Conv2d(3, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, CLASSES)
        liven(self)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x_BCHW)).relu().mean((2, 3)))


def liven(network: nn.Module) -> None:
    """Sets norms to values as in a trained network."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)


def engine(network: nn.Module | None = None, subset: tuple[int, ...] | None = None, **settings) -> Engine:
    how = Settings(**{"batch_size": 4, **settings})
    return Engine(network or Small(), RGB, how, CPU, top=5, subset=subset)


@pytest.mark.parametrize(
    "faster",
    [{"channels_last": True}, {"fold": True}, pytest.param({"compile": True, "fold": True}, marks=pytest.mark.slow)],
)
def test_faster_settings_give_the_scores_of_plain_ones(faster) -> None:
    plain, fast = (engine(**how).launch(PIXELS)() for how in ({}, faster))
    assert np.array_equal(plain.classes, fast.classes)
    assert np.allclose(plain.probs, fast.probs, atol=1e-6)


@pytest.mark.slow
def test_more_models_than_torch_would_compile_of_one_architecture_are_all_compiled() -> None:
    from torch._dynamo.utils import counters

    before, models = counters["stats"]["unique_graphs"], 10
    for width in range(4, 4 + models):
        compiled, plain = (engine(Small(width), compile=which).launch(PIXELS)() for which in (True, False))
        assert np.allclose(compiled.probs, plain.probs, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == before + models


def test_masked_classes_have_no_probability_compiled_or_not() -> None:
    subset = (2, 5, 7, 11, 13, 17)
    whole = engine().launch(PIXELS)().probs[:, subset]
    for compiled in (False, True):
        scores = engine(subset=subset, compile=compiled).launch(PIXELS)()
        assert np.allclose(scores.probs[:, subset], whole / whole.sum(1, keepdims=True), atol=1e-6)
        assert scores.probs.sum() == pytest.approx(len(PIXELS))
        assert set(scores.classes.flatten().tolist()) <= set(subset)


class Crowded(Small):
    """Runs out of memory with more than `room` images at once, and the first `hiccups` times."""

    def __init__(self, room: int, error: Exception, hiccups: int = 0) -> None:
        super().__init__()
        self.room, self.error, self.hiccups, self.batches = room, error, hiccups, []

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x_BCHW))
        if len(x_BCHW) > self.room or len(self.batches) <= self.hiccups:
            raise self.error
        return super().forward(x_BCHW)


OUT = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
]


@pytest.mark.parametrize("error", OUT)
def test_out_of_memory_halves_the_batch_for_good(error) -> None:
    network = Crowded(2, error)
    crowded = engine(network, batch_size=8)
    scores = crowded.launch(PIXELS)()
    assert network.batches == [8, 8, 4, 4, 2, 2, 2, 2]
    assert crowded.batch == 2
    assert np.array_equal(scores.probs, engine(batch_size=2).launch(PIXELS)().probs)
    crowded.launch(PIXELS[:3])()
    assert network.batches[8:] == [2, 2]


def test_memory_that_runs_out_once_leaves_the_batch_as_it_is() -> None:
    network = Crowded(8, OUT[0], hiccups=1)
    assert np.array_equal(engine(network).launch(PIXELS)().probs, engine().launch(PIXELS)().probs)
    assert network.batches == [4, 4, 4]


def test_no_room_for_one_image_is_said() -> None:
    with pytest.raises(NoRoomError):
        engine(Crowded(0, OUT[0])).launch(PIXELS)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    network = Crowded(0, RuntimeError("a shape is wrong"))
    with pytest.raises(RuntimeError, match="a shape"):
        engine(network).launch(PIXELS)
    assert network.batches == [4]


@pytest.mark.parametrize("name", FOLDED)
def test_every_norm_of_a_zoo_model_folds_and_the_logits_stay(name) -> None:
    torch.manual_seed(1)
    network = zoo.create(name)
    liven(network)
    network.eval()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    x_BCHW = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        before = network(x_BCHW)
        assert fold(network, 96) == norms
        after = network(x_BCHW)
    assert torch.allclose(before, after, atol=1e-5 * before.abs().max().item())


class Twisted(Small):
    """The norm is not the only one to use the output of the convolution."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        wrote = self.conv(x_BCHW)
        return self.fc((self.norm(wrote).relu() + wrote).mean((2, 3)))


class Twice(Small):
    """The convolution runs twice, and once without the norm."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.fc((self.norm(self.conv(x_BCHW)).relu() + self.conv(x_BCHW)).mean((2, 3)))


@pytest.mark.parametrize("kind", [Twisted, Twice])
def test_a_norm_that_does_not_belong_to_one_convolution_alone_stays(kind) -> None:
    network = kind().eval()
    assert fold(network, SIZE) == 0
    assert isinstance(network.norm, nn.BatchNorm2d)


def test_normalisation_follows_the_cards_channel_order() -> None:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (RGB.mean, RGB.std))
    expected = (PIXELS / 255 - np.array(RGB.mean)) / np.array(RGB.std)
    got = normalise(torch.from_numpy(PIXELS), mean, std, is_bgr=False)
    assert np.allclose(got.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)
    expected = (PIXELS[..., ::-1] / 255 - np.array(RGB.mean)) / np.array(RGB.std)
    got = normalise(torch.from_numpy(PIXELS), mean, std, is_bgr=True)
    assert np.allclose(got.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_a_cards_channel_order_reaches_the_network() -> None:
    seen: list[torch.Tensor] = []
    network = Small()
    network.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    for channels in ("RGB", "BGR"):
        Engine(network, replace(RGB, channels=channels, mean=(0,) * 3, std=(1,) * 3), Settings(), CPU, top=5).launch(
            PIXELS
        )
    assert torch.equal(seen[0].flip(1), seen[1])


@pytest.mark.parametrize(
    ("told", "is_full", "is_sick"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, False),
        ("CUDA error: an illegal memory access was encountered", False, True),
        ("DefaultCPUAllocator: can't allocate memory", True, False),
        ("mat1 and mat2 shapes cannot be multiplied", False, False),
    ],
)
def test_a_full_device_a_sick_one_and_a_wrong_model_are_told_apart(told, is_full, is_sick) -> None:
    error = RuntimeError(told)
    assert (engine_module.is_out_of_memory(error), engine_module.is_device_fault(error)) == (is_full, is_sick)


KEEPING = """
import resource, torch
from pipelines.models.engine import free_memory
from pipelines.models.engine import keep_memory

def faults(times=4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

device = torch.device("cpu")
print(faults())
keep_memory(device)
torch.ones(1 << 26)
print(faults())
free_memory(device)
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_a_batch_is_given_the_memory_of_the_one_before_until_it_is_freed() -> None:
    run = subprocess.run([sys.executable, "-c", KEEPING], capture_output=True, text=True, check=True)
    plain, kept, freed = map(int, run.stdout.split())
    assert kept < plain / 2
    assert kept < freed
