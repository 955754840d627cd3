"""Every architecture is the published one: its keys, its parameters, its logits; and it trains, compiles and scales."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.paths import GOLDEN
from zoo import counts
from zoo.architectures.dropblock import DropBlock2d
from zoo.architectures.resnet import Bottleneck
from zoo.architectures.table import ARCHITECTURES, find_architecture

TEST_SIZES = {"resnest101e": 256, "resnest200e": 320, "resnest269e": 416}
WITH_KEYS = sorted(path.name.partition(".")[0] for path in GOLDEN.glob("*.keys.json"))
WITH_LOGITS = sorted(path.stem for path in GOLDEN.glob("*.npz") if not path.stem.startswith("sknet"))
# One of each kind of block; the others differ in depth and width alone.
KINDS = [
    *["selecsls42b", "selecsls60", "res2next50", "sknet50", "ssl_resnext50_32x4d"],
    *["resnest14d", "resnest50d", "resnest50d_4s2x40d", "resnest50d_1s4x24d"],
]

COMPILED = {"selecsls42b", "resnest50d"}
"""By every run of CI: compiling one takes a quarter of a minute."""


def on_meta(name: str, num_classes: int = 1000) -> nn.Module:
    with torch.device("meta"):
        return find_architecture(name).build(num_classes)


def test_sixteen_models_have_reference_keys_and_twelve_reference_logits():
    assert len(WITH_KEYS) == 16
    assert len(WITH_LOGITS) == 12


@pytest.mark.parametrize("name", WITH_KEYS)
def test_keys_and_shapes_are_the_published_checkpoints_in_their_order(name: str):
    published = json.loads((GOLDEN / f"{name}.keys.json").read_text())
    own = {key: list(value.shape) for key, value in on_meta(name).state_dict().items()}
    assert list(own.items()) == list(published.items())


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("num_classes", [1000, 7])
def test_parameters_are_counted_exactly_for_any_number_of_classes(name: str, num_classes: int):
    assert counts.parameters(on_meta(name, num_classes)) == ARCHITECTURES[name].params_with(num_classes)


@pytest.mark.parametrize("name", WITH_LOGITS)
@torch.inference_mode()
def test_logits_and_features_equal_the_independent_implementations(name: str, filled: Callable, noise: Callable):
    expected = np.load(GOLDEN / f"{name}.npz")
    model, x = filled(name), noise(TEST_SIZES.get(name, 224))
    for found, reference in (
        (model(x), expected["logits"]),
        (model.forward_features(x).mean((2, 3)), expected["features"]),
    ):
        torch.testing.assert_close(found, torch.from_numpy(reference), rtol=0, atol=1e-4 * float(reference.std()))


@torch.inference_mode()
def test_sknet_on_caffes_weights_equals_the_reading_of_the_authors_prototxt(caffe_blobs: Callable, noise: Callable):
    expected = np.load(GOLDEN / "sknet50.npz")["logits"]
    architecture = find_architecture("sknet50")
    model = architecture.build(1000).eval()
    model.load_state_dict(architecture.rename(caffe_blobs("sknet50")))
    torch.testing.assert_close(model(noise(224)), torch.from_numpy(expected), rtol=0, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("name", ["sknet50", "sknet101"])
def test_caffes_blobs_are_renamed_one_to_one_and_our_own_keys_stay(name: str, caffe_blobs: Callable):
    architecture, own = find_architecture(name), on_meta(name).state_dict()
    blobs = caffe_blobs(name)
    renamed = architecture.rename(blobs)
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in own.items()}
    assert len(renamed) == len(blobs) + sum(key.endswith("num_batches_tracked") for key in own)
    assert architecture.rename(own).keys() == own.keys()


def test_a_strange_caffe_layer_keeps_its_name():
    strange = ["conv6_1/3x3g32/0", "conv2_1/5x5/0", "conv2_1/1x1_proj/bn/4", "classifier/x"]
    assert list(find_architecture("sknet50").rename(dict.fromkeys(strange, torch.zeros(2)))) == strange


def test_the_authors_classifier_is_renamed_and_nothing_else():
    own = on_meta("selecsls60").state_dict()
    theirs = {key.replace("fc.", "classifier.0."): value for key, value in own.items()}
    assert theirs.keys() != own.keys()
    assert find_architecture("selecsls60").rename(theirs).keys() == own.keys()
    assert find_architecture("selecsls60").rename(own).keys() == own.keys()


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_an_odd_size_will_do_in_either_memory_format(name: str, filled: Callable):
    model = filled(name)
    x = torch.randn(2, 3, 65, 130, generator=torch.Generator().manual_seed(1))
    logits = model(x)
    assert logits.shape == (2, 1000)
    turned = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(turned, logits, rtol=0, atol=1e-4 * float(logits.std()))


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_autocast_to_bfloat16_stays_near_float32(name: str, filled: Callable, noise: Callable):
    model, x = filled(name), noise(96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(x)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.float() - model(x)).abs().max()) < 0.2 * float(model(x).std())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in COMPILED else pytest.param(name, marks=pytest.mark.thorough) for name in KINDS]
)
def test_it_compiles_whole_to_evaluate_and_to_train(name: str, filled: Callable, noise: Callable):
    torch.compiler.reset()  # compilations are counted by a function's code, which the ResNets share
    model, x = filled(name), noise(64)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), model(x))
    model.train()
    assert compiled(x).isfinite().all()


@pytest.mark.parametrize("name", KINDS)
def test_a_fresh_model_keeps_the_scale_of_its_input_and_has_gradients_everywhere(name: str, noise: Callable):
    torch.manual_seed(0)
    model = find_architecture(name).build(7)
    logits = model(noise(96))
    assert logits.shape == (2, 7)
    assert 1e-3 < float(logits.detach().std()) < 10
    F.cross_entropy(logits, torch.tensor([0, 6])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_fresh_resnest_starts_as_the_identity_and_a_resnext_does_not():
    def scales(name: str) -> list[Tensor]:
        return [block.bn3.weight for block in find_architecture(name).build(1000).modules() if _is_block(block)]

    assert all(not scale.any() for scale in scales("resnest14d"))
    assert all(scale.eq(1).all() for scale in scales("ssl_resnext50_32x4d"))


def test_the_recipes_regularisation_is_where_the_authors_have_it():
    def drops(name: str) -> set[str]:
        layers = on_meta(name).named_modules()
        return {key.partition(".")[0] for key, layer in layers if isinstance(layer, DropBlock2d) and layer.drop > 0}

    assert drops("resnest50d") == {"layer3", "layer4"}
    assert drops("resnest14d") == drops("resnest50d_4s2x40d") == set()
    assert {name: on_meta(name).dropout.p for name in ("resnest101e", "resnest200e", "resnest269e")} == {
        "resnest101e": 0.0,
        "resnest200e": 0.2,
        "resnest269e": 0.2,
    }


def test_an_unknown_architecture_is_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"'resnset50d'; did you mean resnest50d.*known: cifar_resnet20, "):
        find_architecture("resnset50d")


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, Bottleneck)


def test_the_small_resnets_have_the_papers_layers_and_parameters():
    # He et al. 2016, table 6: ResNet-20 has 0.27 million parameters with the ten classes of CIFAR.
    small = on_meta("cifar_resnet20", 10)
    layers = [module for module in small.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert (len(layers), round(counts.parameters(small) / 1e6, 2)) == (20, 0.27)


@torch.inference_mode()
def test_a_small_resnets_shortcut_skips_pixels_and_pads_channels_without_a_parameter():
    block = find_architecture("cifar_resnet8").build(10).layer2[0].eval()
    for norm in (block.bn1, block.bn2):
        nn.init.zeros_(norm.weight)  # nothing is left but the shortcut
    x = torch.rand(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert not out[:, 16:].any()
