"""models.mirror: weights are verified, put into a store and locked there, and come out unchanged or not at all."""

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import zoo
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.models import mirror
from zoo.weights import load

BASE = zoo.card("efficientnet_lite0")


def saved(state: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return zoo.create("efficientnet_lite0", num_classes=2).state_dict()


def published(url: str, data: bytes, digits: int = 8) -> zoo.Card:
    """A card of a model with two classes; the name of its weights, at `url`, has their digest."""
    digest = hashlib.sha256(data).hexdigest()[:digits]
    file = zoo.WeightsFile(location=f"{url}/student-{digest}.pth", sha256=digest, license="MIT")
    return dataclasses.replace(BASE, name="student", num_classes=2, weights=file)


def place(card: zoo.Card) -> str:
    assert card.weights is not None
    return "/" + card.weights.location.rpartition("/")[2]


def test_what_is_mirrored_is_locked_whole_and_found_on_a_machine_without_network(
    store: str, web, new_machine: Callable[[], Path], state: dict[str, Tensor]
):
    new_machine()
    data = saved(state)
    card = published(web.url, data)
    url = web.put(place(card), data)
    lock = mirror.mirror(store, card)
    assert lock == mirror.Lock(
        model="student",
        file=place(card)[1:],
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        label_order="synset",
        sources=(url,),
    )
    assert mirror.read_lock(store, card) == lock
    assert storage.read(f"{store}/weights/{lock.file}") == data
    cache = new_machine()
    web.content.clear()
    web.requests.clear()
    wanted = mirror.find(store, card)
    assert (wanted.sha256, mirror.is_near(wanted)) == (lock.sha256, True)
    model = mirror.load(card, wanted)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not model.training
    assert not web.requests
    assert (cache / lock.file).is_file() == storage.is_remote(store)


def test_mirroring_again_writes_nothing_and_other_weights_of_the_model_are_refused(
    store: str, new_machine: Callable[[], Path], state: dict[str, Tensor], tmp_path: Path
):
    new_machine()
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    first.write_bytes(saved(state))
    second.write_bytes(saved({key: value + 1 for key, value in state.items()}))
    card = dataclasses.replace(published("https://x.org", b""), weights=None)
    lock = mirror.mirror(store, card, str(first))
    before = [(entry.uri, entry.etag) for entry in storage.list_objects(f"{store}/weights")]
    assert mirror.mirror(store, card, str(first)) == lock
    assert [(entry.uri, entry.etag) for entry in storage.list_objects(f"{store}/weights")] == before
    with pytest.raises(FileExistsError, match=f"student.lock.json locks SHA-256 {lock.sha256} in "):
        mirror.mirror(store, card, str(second))


def test_weights_without_a_published_digest_are_used_once_a_lock_pins_them(
    store: str, web, new_machine: Callable[[], Path], state: dict[str, Tensor]
):
    new_machine()
    url = web.put("/download", saved(state))
    hashless = zoo.WeightsFile(location=url, sha256=None, license=None)
    card = dataclasses.replace(BASE, name="student", num_classes=2, weights=hashless)
    with pytest.raises(ValueError, match=r"student: no SHA-256 .*jobs\.weights mirror --models student"):
        mirror.find(store, card)
    lock = mirror.mirror(store, card)
    assert lock.file == f"student-{lock.sha256[:8]}.pth"
    wanted = mirror.find(store, card)
    assert wanted.sha256 == lock.sha256
    web.put("/download", saved({key: value + 1 for key, value in state.items()}))
    mirror.load(card, wanted)
    storage.replace(f"{store}/weights/{lock.file}", b"other")
    new_machine()
    with pytest.raises((FileNotFoundError, ValueError), match=f"expected SHA-256 {lock.sha256}"):
        mirror.load(card, wanted)


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
        with pytest.raises(ValueError, match=r"student-deadbeef\.pth: expected SHA-256 deadbeef,.* found \w{64}"):
            way(store, card, str(path))


def test_the_label_order_is_that_of_the_file_that_was_mirrored(
    store: str, new_machine: Callable[[], Path], tmp_path: Path
):
    new_machine()
    model = zoo.create("sknet50")
    torch.save(model.state_dict(), tmp_path / "converted.pth")
    card = zoo.card("sknet50")
    assert mirror.mirror(store, card, str(tmp_path / "converted.pth")).label_order == "synset"
    again = mirror.load(card, mirror.find(store, card))
    assert torch.equal(again.state_dict()["fc.bias"], model.state_dict()["fc.bias"])


def test_a_card_without_weights_has_those_that_are_locked(
    store: str, new_machine: Callable[[], Path], state: dict[str, Tensor], tmp_path: Path
):
    new_machine()
    torch.save(state, tmp_path / "student.pth")
    card = dataclasses.replace(BASE, name="student", num_classes=2, weights=None)
    with pytest.raises(ValueError, match="student: no weights are published"):
        mirror.find(store, card)
    mirror.mirror(store, card, str(tmp_path / "student.pth"))
    new_machine()
    assert torch.equal(
        mirror.load(card, mirror.find(store, card)).state_dict()["classifier.bias"], state["classifier.bias"]
    )


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


def test_a_lock_leaves_out_what_may_be_secret_in_a_url(
    tmp_path: Path, web, new_machine: Callable[[], Path], state: dict[str, Tensor]
):
    new_machine()
    web.put("/student.pth?X-Amz-Signature=CANARY", saved(state))
    url = f"{web.url}/student.pth?X-Amz-Signature=CANARY".replace("//", "//user:CANARY@")
    hashless = zoo.WeightsFile(location=url, sha256=None, license=None)
    lock = mirror.mirror(str(tmp_path), dataclasses.replace(BASE, name="student", num_classes=2, weights=hashless))
    assert lock.sources == (f"{web.url}/student.pth",)
    assert b"CANARY" not in storage.read(f"{tmp_path}/weights/student.lock.json")


def test_cells_are_the_same_before_and_after_mirroring(
    store: str, web, new_machine: Callable[[], Path], state: dict[str, Tensor]
):
    new_machine()
    data = saved(state)
    card = published(web.url, data)
    web.put(place(card), data)
    before = Column(card=card, file=mirror.find(store, card))
    mirror.mirror(store, card)
    after = Column(card=card, file=mirror.find(store, card))
    assert (before.name, before.weights) == (after.name, after.weights)


def test_relative_paths_mean_the_same_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({}, "mine.pth")
    assert mirror.find("store", BASE, "mine.pth").sources == (f"{tmp_path}/mine.pth",)
    package = mirror.find("store", BASE).sources
    assert package[0].startswith(f"{tmp_path}/store/weights/")
    assert package[1].startswith("package:")


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


def test_an_explicit_checkpoint_comes_before_everything_and_is_known_by_its_whole_digest(
    store: str, web, new_machine: Callable[[], Path], state: dict[str, Tensor]
):
    new_machine()
    card = published(web.url, saved(state))
    other = saved({key: value + 1 for key, value in state.items()})
    storage.put(f"{store}/mine.pth", other)
    wanted = mirror.find(store, card, f"{store}/mine.pth")
    assert wanted.sha256 == hashlib.sha256(other).hexdigest()
    assert torch.equal(mirror.load(card, wanted).state_dict()["classifier.bias"], state["classifier.bias"] + 1)
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        mirror.find(store, card, f"{store}/absent.pth")
