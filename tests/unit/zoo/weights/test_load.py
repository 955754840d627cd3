"""Weights are verified before they are parsed, parsed without running code, and loaded whole or not at all."""

import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors
from torch import nn

import zoo
from zoo.cards.digests import digest_in
from zoo.weights import cache, load, wanted

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, 2.0])}


class Malice:
    """Runs `open(path, "w")` when it is unpickled by a parser that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def published_file() -> Path:
    return cache.obtain(wanted.published(zoo.card("efficientnet_lite0")))


def saved(value: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("digits", [8, 64])
def test_bytes_are_returned_when_the_digest_or_its_beginning_agrees(tmp_path: Path, digits: int):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"bytes")
    assert load.read_verified(path, hashlib.sha256(b"bytes").hexdigest()[:digits]) == b"bytes"


def test_a_wrong_digest_names_the_file_the_expected_and_the_found(tmp_path: Path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"bytes")
    found = hashlib.sha256(b"bytes").hexdigest()
    with pytest.raises(ValueError, match=rf"weights\.pth: expected SHA-256 01234567, found {found} \(5 bytes\)"):
        load.read_verified(path, "01234567")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("lite0.pth", None),
        ("lite0-student.pth", None),
        ("lite0-0123456.pth", None),
        ("lite0-01234567.pth", "01234567"),
        ("lite-0-0123456789abcdef.tar.pth", None),
        ("https://example.org/lite-01234567.safetensors", "01234567"),
    ],
)
def test_a_digest_is_found_in_a_file_name_by_torch_hubs_convention(name: str, digest: str | None):
    assert digest_in(name) == digest


@pytest.mark.parametrize("name", ["lite0.pth", "lite0-student.pth", "lite0-{}.pth"])
def test_a_file_name_without_a_wrong_digest_is_loaded(tmp_path: Path, name: str):
    data = saved(zoo.create("efficientnet_lite0", num_classes=2).state_dict())
    path = tmp_path / name.format(hashlib.sha256(data).hexdigest()[:8])
    path.write_bytes(data)
    assert not zoo.create("efficientnet_lite0", weights=path, num_classes=2).training


@pytest.mark.parametrize("zipped", [True, False])
def test_a_saved_state_is_read_back(zipped: bool):
    state = load.load_state(saved(STATE, zipped))
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("forced", [None, "1"])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped, forced):
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    witness = tmp_path / "witness"
    data = saved({**STATE, "more": Malice(witness)}, zipped)
    with pytest.raises(ValueError, match=r"student\.pth: not loaded, since it contains pickled code \(\w+\.open\)"):
        load.load_state(data, "student.pth")
    assert not witness.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short_anywhere_is_refused(zipped: bool):
    data = saved(STATE, zipped)
    for size in range(0, len(data), 13):
        # A name cut short inside the older, unzipped format reads as one that is not allowed.
        with pytest.raises(ValueError, match=r"student\.pth: (not a complete checkpoint, truncated|not loaded)"):
            load.load_state(data[:size], "student.pth")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes):
    with pytest.raises(ValueError, match="the checkpoint: "):
        load.load_state(data)


def test_a_fitting_state_fills_the_model():
    model = nn.Linear(3, 2)
    load.load_strict(model, STATE)
    assert all(torch.equal(value, STATE[key]) for key, value in model.state_dict().items())


def test_one_error_lists_missing_extra_and_misshaped_keys_and_changes_nothing():
    model = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {"weight": torch.zeros(2, 4)} | {f"other{index}": torch.zeros(1) for index in range(5)}
    told = (
        r"student\.pth does not fit Linear: 1 missing: bias; "
        r"5 extra: other0, other1, other2, \.\.\.; 1 mis-shaped: weight is \(2, 4\), not \(2, 3\)$"
    )
    with pytest.raises(ValueError, match=told):
        load.load_strict(model, state, "student.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (torch.tensor([1.0, float("nan")]), "bias is not finite"),
        (torch.tensor([1.0, float("inf")]), "bias is not finite"),
        (torch.tensor([1, 2]), r"bias is torch\.int64, not torch\.float32"),
        (torch.tensor([1j, 2]), r"bias is torch\.complex64, not torch\.float32"),
        (torch.tensor([1.0, 2.0]).to_sparse(), r"bias is torch\.sparse_coo"),
    ],
)
def test_values_of_another_kind_or_not_finite_are_refused(value: torch.Tensor, told: str):
    with pytest.raises(ValueError, match=f"1 unusable: {told}"):
        load.load_strict(nn.Linear(3, 2), {**STATE, "bias": value})


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_weights_fill_the_model_in_float32(kind: torch.dtype):
    model = nn.Linear(3, 2)
    load.load_strict(model, {key: value.to(kind) for key, value in STATE.items()})
    assert torch.equal(model.bias, STATE["bias"])
    assert model.bias.dtype == torch.float32


def test_an_empty_digest_agrees_with_nothing(tmp_path: Path):
    (tmp_path / "a.pth").write_bytes(b"bytes")
    with pytest.raises(ValueError, match="expected SHA-256 , found"):
        load.read_verified(tmp_path / "a.pth", "")


def test_a_trained_model_saved_by_its_user_loads_again(tmp_path: Path):
    model = zoo.create("efficientnet_lite0", num_classes=10)
    path = tmp_path / "student.pth"
    torch.save(model.state_dict(), path)
    again = zoo.create("efficientnet_lite0", weights=path, num_classes=10)
    assert not again.training
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())


def test_published_weights_do_not_fit_another_number_of_classes():
    with pytest.raises(
        ValueError, match=r"57934424\.pth does not fit .*2 mis-shaped: classifier\.weight is \(1000, 1280\)"
    ):
        zoo.create("efficientnet_lite0", weights="card", num_classes=10)


@pytest.mark.parametrize("location", ["s3://bucket/a.pth", "/no/such/file.pth"])
def test_absent_weights_never_become_random_ones(location: str):
    with pytest.raises(FileNotFoundError, match=location):
        zoo.create("efficientnet_lite0", weights=location)


def test_a_damaged_copy_of_the_published_file_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = bytearray(published_file().read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    path.write_bytes(data)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(ValueError, match="expected SHA-256 57934424"):
        zoo.create("efficientnet_lite0", weights=str(path))


def test_safetensors_are_read_and_refused_when_cut_short():
    data = save_safetensors(STATE)
    state = load.parse(data, "student.safetensors")
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)
    for size in range(0, len(data), 7):
        with pytest.raises(ValueError, match=r"student\.safetensors: not a complete checkpoint"):
            load.parse(data[:size], "student.safetensors")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.caffemodel"])
def test_a_web_page_in_place_of_weights_is_called_one(name: str):
    with pytest.raises(ValueError, match=f"{name}: a web page, not a checkpoint"):
        load.parse(b"\n<!DOCTYPE html><title>Virus scan warning</title>", name)


def test_a_classifier_in_the_devkits_order_is_put_into_ours():
    rows = torch.arange(1000.0)
    state = load.to_synset_order({"fc.weight": rows[:, None], "fc.bias": rows, "conv.weight": rows}, "fc")
    # Class 970, the alp, has ILSVRC2012_ID 361; class 0, the tench, has 449.
    assert (float(state["fc.bias"][970]), float(state["fc.weight"][0, 0])) == (360.0, 448.0)
    assert torch.equal(state["conv.weight"], rows)
    with pytest.raises(ValueError, match=r"devkit requires 1000 classes, fc\.weight has 10"):
        load.to_synset_order({"fc.weight": torch.zeros(10, 3)}, "fc")


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path):
    witness = tmp_path / "witness"
    with pytest.raises(ValueError, match="the checkpoint: not loaded"):
        load.load_state(pickle.dumps(Malice(witness), protocol=2))
    assert not witness.exists()
