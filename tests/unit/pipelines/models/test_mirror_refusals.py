"""Covers pipelines.models.mirror: files of weights and locks that are damaged, foreign or contradict the card."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import zoo
from pipelines import storage
from pipelines.models import mirror
from tests.support.published_weights import BASE, place, published, saved
from zoo.weights import load


class Malice:
    """Runs `open(path, "w")` if a parser that runs code unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def spoiled(kind: str, state: dict[str, Tensor], witness: Path) -> bytes:
    spoilt = dict(state)
    if kind == "extra":
        spoilt["stranger.weight"] = torch.zeros(2)
    elif kind == "missing":
        del spoilt["classifier.bias"]
    elif kind == "mis-shaped":
        spoilt["classifier.bias"] = torch.zeros(3)
    elif kind == "pickled code":
        spoilt["more"] = Malice(witness)  # pyright: ignore[reportArgumentType]
    data = saved(spoilt)
    return data[: len(data) // 2] if kind == "cut short" else data


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("extra", r"student-\w{8}\.pth does not fit EfficientNetLite: 1 extra: stranger\.weight"),
        ("missing", r"does not fit EfficientNetLite: 1 missing: classifier\.bias"),
        ("mis-shaped", r"1 mis-shaped: classifier\.bias is \(3,\), not \(2,\)"),
        ("pickled code", r"student-\w{8}\.pth: not loaded, since it contains pickled code \(\w+\.open\)"),
        ("cut short", r"student-\w{8}\.pth: not a complete checkpoint, truncated or damaged"),
    ],
)
def test_a_file_that_is_not_the_models_is_refused_by_name_and_never_stored(
    kind: str, told: str, store: str, web, new_machine: Callable[[], Path], state: dict[str, Tensor], tmp_path: Path
):
    new_machine()
    witness = tmp_path / "witness"
    data = spoiled(kind, state, witness)
    card = published(web.url, data)
    web.put(place(card), data)
    with pytest.raises(ValueError, match=told):
        mirror.mirror(store, card)
    assert list(storage.list_objects(f"{store}/weights")) == []
    assert not witness.exists()


@pytest.mark.parametrize("change", ["one bit", "cut short"])
def test_a_stored_file_that_changed_is_refused_before_it_is_parsed(
    change: str, store: str, new_machine: Callable[[], Path], state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    new_machine()
    data = saved(state)
    card = published("http://127.0.0.1:9", data)
    assert card.weights is not None
    spoilt = bytearray(data)
    spoilt[len(data) // 2] ^= 1
    storage.put(f"{store}/weights{place(card)}", bytes(spoilt) if change == "one bit" else data[:-1000])
    monkeypatch.setattr(load, "load_state", lambda *_: pytest.fail("parsed"))
    wanted = mirror.find(store, card)
    with pytest.raises((FileNotFoundError, ValueError), match=f"expected SHA-256 {card.weights.sha256}, found"):
        mirror.load(card, wanted)
    with pytest.raises(ValueError, match=f"{place(card)[1:]}: expected SHA-256 {card.weights.sha256}, found"):
        mirror.verify(mirror.uri(store, wanted), wanted)


def test_a_wrong_digest_in_a_files_name_is_refused_on_every_way(
    store: str, new_machine: Callable[[], Path], state: dict[str, Tensor], tmp_path: Path
):
    new_machine()
    path = tmp_path / "student-deadbeef.pth"
    path.write_bytes(saved(state))
    card = dataclasses.replace(BASE, name="student", num_classes=2, weights=None)
    for way in (mirror.find, mirror.mirror):
        with pytest.raises(ValueError, match=r"deadbeef\.pth: expected SHA-256 deadbeef( by its name)?, found \w{64}"):
            way(store, card, str(path))


def test_mirroring_over_a_damaged_copy_is_refused_and_not_called_right(
    store: str, web, new_machine: Callable[[], Path], state: dict[str, Tensor]
):
    new_machine()
    data = saved(state)
    card = published(web.url, data)
    web.put(place(card), data)
    lock = mirror.mirror(store, card)
    spoilt = bytearray(data)
    spoilt[len(data) // 2] ^= 1
    storage.replace(f"{store}/weights/{lock.file}", bytes(spoilt))
    with pytest.raises(FileExistsError, match="exists with other content"):
        mirror.mirror(store, card)
    assert torch.equal(
        mirror.load(card, mirror.find(store, card)).state_dict()["classifier.bias"], state["classifier.bias"]
    )


def test_a_disk_that_is_full_is_said_and_not_taken_for_missing_weights(
    s3_server: str, new_machine: Callable[[], Path], state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    new_machine()
    data = saved(state)
    card = published("http://127.0.0.1:9", data)
    store = f"{s3_server}/{card.weights.sha256}"  # pyright: ignore[reportOptionalMemberAccess]
    storage.put(f"{store}/weights{place(card)}", data)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as told:
        mirror.obtain(mirror.find(store, card))
    assert not isinstance(told.value, FileNotFoundError)


def test_resnest200e_refuses_resnest101es_file(tmp_path: Path, new_machine: Callable[[], Path]):
    new_machine()
    data = saved(zoo.create("resnest101e").state_dict())
    path = tmp_path / "resnest101.pth"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"resnest101\.pth does not fit ResNet: \d+ missing: layer2\.4\.conv1\.weight"):
        zoo.create("resnest200e", weights=path)
    with pytest.raises(ValueError, match=r"resnest200e: its card names SHA-256 75117900, .*resnest101\.pth has "):
        mirror.mirror(str(tmp_path / "store"), zoo.card("resnest200e"), str(path))


def lock_of(**changed: object) -> bytes:
    lock = {"model": "student", "file": "x.pth", "sha256": "f" * 64, "size": 1, "label_order": "synset", "sources": []}
    return json.dumps({**lock, **changed}).encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "not a lock of student's weights"),
        (b'{"model": "student"}', "not a lock of student's weights"),
        (lock_of(model="other"), "it is of 'other'"),
        (lock_of(sha256=""), "is not a SHA-256"),
        (lock_of(sha256="f" * 8), "it is of 'student', SHA-256 'ffffffff'"),
        (lock_of(file="../x.pth"), r"'\.\./x\.pth' is not a valid name for a file of weights"),
        (lock_of(file="/etc/x.pth"), "'/etc/x.pth' is not a valid name for a file of weights"),
        (lock_of(), r"student: its card names SHA-256 \w{8}, .*student\.lock\.json has ffff"),
    ],
)
def test_a_lock_that_is_damaged_or_contradicts_the_card_is_refused(content: bytes, told: str, tmp_path: Path):
    card = published("https://x.org", b"")
    storage.put(f"{tmp_path}/weights/student.lock.json", content)
    with pytest.raises(ValueError, match=told):
        mirror.find(str(tmp_path), card)
