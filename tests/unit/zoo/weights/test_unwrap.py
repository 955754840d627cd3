"""Covers zoo.weights.unwrap and fit: the weights are found in what training scripts save, or the choices are named."""

import argparse
import io
import subprocess
import sys
from collections import OrderedDict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.weights import load, wanted
from zoo.weights.fit import fit
from zoo.weights.unwrap import PREFIXES, SETS, unwrap, with_counters

STATE = {
    "conv.weight": torch.arange(6.0).reshape(2, 3),
    "bn.num_batches_tracked": torch.tensor(3),
    "model_head.bias": torch.tensor([1.0, 2.0]),
}
PLAIN = {
    "epoch": 9,
    "arch": "resnet",
    "args": argparse.Namespace(lr=0.1, data=Path("/data")),
    "best": np.float64(75.1),
    "curve": [1.0, 2.0],
    "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
}


def through_a_file(content: object, zipped: bool = True) -> object:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return load.load_state(buffer.getvalue())


def same(found: dict, expected: dict = STATE) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@given(
    names=st.lists(st.sampled_from(SETS), max_size=3),
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=3),
    extras=st.sets(st.sampled_from(["total_ops", "conv.total_params", "n_averaged"])),
    plain=st.sets(st.sampled_from(sorted(PLAIN))),
    zipped=st.booleans(),
)
def test_weights_are_found_in_any_wrapping(names, prefixes, extras, plain, zipped) -> None:
    content: dict = {"".join(prefixes) + key: value for key, value in STATE.items()}
    content |= {"".join(prefixes) + key: torch.zeros(1) for key in extras}
    for name in names:
        content = {name: content, **{key: PLAIN[key] for key in plain}}
    found = unwrap(through_a_file(content, zipped), STATE.keys())
    assert same(found.tensors)
    assert [step for step in found.steps if step.startswith("took")] == [f"took {name}" for name in reversed(names)]


def test_plain_values_beside_the_tensors_are_left_out_and_named() -> None:
    found = unwrap(through_a_file(OrderedDict(STATE, epoch=3, arch="resnet")), STATE.keys())
    assert same(found.tensors)
    assert found.steps == ("left out what is no tensor: epoch, arch",)


def test_a_prefix_of_the_networks_own_keys_stays() -> None:
    own = {f"model.{key}": value for key, value in STATE.items()}
    assert same(unwrap(own, own.keys()).tensors, own)
    assert same(unwrap({f"module.{key}": value for key, value in own.items()}, own.keys()).tensors, own)


def test_two_sets_are_named_and_one_is_chosen_by_its_key() -> None:
    averaged = {key: value + 1 for key, value in STATE.items()}
    content = {"state_dict": STATE, "state_dict_ema": averaged, "epoch": 3, "inner": {"net": STATE}}
    with pytest.raises(ValueError, match=r"a\.pth: holds 2 sets .* --weights-key state_dict or state_dict_ema"):
        unwrap(content, STATE.keys(), source="a.pth")
    assert same(unwrap(content, STATE.keys(), "state_dict_ema").tensors, averaged)
    assert same(unwrap(content, STATE.keys(), "inner.net").tensors)
    with pytest.raises(ValueError, match="no set of weights 'net'; it has state_dict, state_dict_ema"):
        unwrap(content, STATE.keys(), "net")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dict of tensors, found list"),
        (STATE["conv.weight"], "expected a dict of tensors, found Tensor"),
        ({}, "found an empty dict"),
        ({"epoch": 3}, "found int at 'epoch'"),
        ({0: STATE["conv.weight"]}, "found Tensor at 0"),
        ({"net": STATE, "epoch": 3}, "tensors are in net: choose with --weights-key net"),
        ({**STATE, "teacher": STATE}, "tensors stand beside teacher; save only the weights"),
    ],
)
def test_what_holds_no_weights_that_are_clear_is_an_error(content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unwrap(content, STATE.keys())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["model", "net"])
def test_a_dict_that_holds_itself_is_an_error(name: str, zipped: bool) -> None:
    content: dict = {"epoch": 3}
    content[name] = content
    with pytest.raises(ValueError, match="expected a dict of tensors"):
        unwrap(through_a_file(content, zipped), STATE.keys())


def test_absent_counters_stay_as_they_are_and_nothing_else_may_be_absent() -> None:
    old = {key: value for key, value in STATE.items() if not key.endswith("num_batches_tracked")}
    state, step = with_counters(old, STATE)
    assert same(state)
    assert step == "1 num_batches_tracked are absent and stay 0"
    assert with_counters(STATE, STATE) == (STATE, None)
    assert with_counters({}, {"conv.weight": STATE["conv.weight"]}) == ({}, None)


def test_a_file_of_a_training_script_gives_the_logits_of_the_bare_weights(tmp_path: Path) -> None:
    card = zoo.card("efficientnet_lite0")
    trained = zoo.create(card).eval()
    state = {f"module.{key}": value for key, value in trained.state_dict().items() if "num_batches" not in key}
    torch.save({"state_dict_ema": state, "model": state, **PLAIN}, tmp_path / "last.pth.tar")
    network = zoo.create(card)
    with pytest.raises(ValueError, match="--weights-key model or state_dict_ema"):
        fit(network, card, wanted.explicit(card, str(tmp_path / "last.pth.tar")))
    file = wanted.explicit(card, str(tmp_path / "last.pth.tar"), key="model")
    took, removed, counters = fit(network, card, file)
    assert (took, removed) == ("took model", "removed the prefix module.")
    assert "num_batches_tracked are absent" in counters
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), trained(images))


LAYER = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (lambda path: torch.save(LAYER, path), "contains pickled code"),
        (lambda path: torch.save({"model": LAYER, "epoch": 3}, path), "contains pickled code"),
        (lambda path: torch.jit.script(LAYER).save(path), "a TorchScript archive"),
        (lambda path: torch.save({"state_dict": LAYER.state_dict(), "seen": deque([1])}, path), "neither tensors nor"),
        (
            lambda path: torch.save({"state_dict": LAYER.state_dict(), "of": frozenset("a")}, path),
            "contains pickled code",
        ),
    ],
    ids=["module", "module in a dict", "torchscript", "deque", "frozenset"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_line_of_python_in_an_error_converts_the_file(saved, message: str, tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    saved(str(path))
    with pytest.raises(ValueError, match=message) as error:
        load.load_state(path.read_bytes(), str(path))
    line = str(error.value).partition("run it in Python: ")[2]
    subprocess.run([sys.executable, "-W", "ignore", "-c", line], cwd=tmp_path, check=True)
    assert same(unwrap(load.load_state((tmp_path / "weights.pth").read_bytes()), ()).tensors, LAYER.state_dict())
