"""Covers pipelines.models.mirror: weights are verified, stored, locked, found again and loaded unchanged."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import zoo
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.models import mirror
from tests.support.fault_proxy import FaultProxy
from tests.support.published_weights import BASE, place, published, saved
from zoo.weights import cache


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


def test_a_remote_checkpoint_is_read_once_for_its_digest_and_its_fit(
    faulty_s3: tuple[str, FaultProxy], new_machine, tmp_path: Path
) -> None:
    new_machine()
    folder, proxy = faulty_s3
    torch.save({"model": zoo.create(BASE).state_dict(), "epoch": 3}, tmp_path / "last.pth.tar")
    storage.put_file(f"{folder}/last.pth.tar", tmp_path / "last.pth.tar")
    proxy.seen.clear()
    file, steps = mirror.check_checkpoint(BASE, f"{folder}/last.pth.tar")
    assert steps == ("took model",)
    ranges = -(-(tmp_path / "last.pth.tar").stat().st_size // (8 << 20))
    assert sum(request.startswith("GET") for request in proxy.seen) == ranges
    assert cache.at_hand(file) is None
    assert file == mirror.find(None, BASE, f"{folder}/last.pth.tar")
