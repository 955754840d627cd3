"""models.tune, models.measure, models.precision: the choice among trials, its file, and measuring on a cluster."""

import json
from dataclasses import asdict, replace

import pytest
from torch._inductor import config as inductor

import zoo
from pipelines import storage
from pipelines.models import tune
from pipelines.models.measure import Likeness, Measurer
from pipelines.models.tune import Trial, Tuning
from pipelines.records import Settings

CARD = zoo.card("efficientnet_lite0")
PLAIN, FASTER = Settings(precision="bf16"), Settings(precision="bf16", fold=True, compile=True, batch_size=16)


def trial(rate: float, agreeing: int = 30, settings: Settings = FASTER) -> Trial:
    return Trial(settings=settings, images_per_second=rate, agreeing=agreeing, images=32, difference=0.01)


def test_the_fastest_settings_are_chosen() -> None:
    trials = [trial(10, settings=PLAIN), trial(30), trial(20, settings=replace(PLAIN, fold=True))]
    assert tune.choose(CARD, trials).settings == FASTER


def test_simpler_settings_that_are_as_fast_but_for_noise_are_preferred() -> None:
    assert tune.choose(CARD, [trial(10, settings=PLAIN), trial(10.2)]).settings == PLAIN


def test_settings_that_stray_further_than_plain_ones_of_that_precision_are_not_chosen() -> None:
    assert tune.choose(CARD, [trial(10, 32, PLAIN), trial(30, 31)]).settings == PLAIN
    assert tune.choose(CARD, [trial(10, 28, PLAIN), trial(30, 29)]).settings == FASTER
    within, beyond = trial(30, 24), trial(30, 23)  # four lost, and twice the square root of it for chance
    assert tune.choose(CARD, [trial(10, 28, PLAIN), within]) == within
    assert tune.choose(CARD, [trial(10, 28, PLAIN), beyond]).settings == PLAIN


def test_what_cannot_be_run_is_not_chosen() -> None:
    broken = Trial(settings=FASTER, failure="no compiler")
    assert tune.choose(CARD, [trial(10, settings=PLAIN), broken]).settings == PLAIN
    with pytest.raises(ValueError, match="efficientnet_lite0: cannot run in bf16: no compiler"):
        tune.choose(CARD, [replace(broken, settings=PLAIN), trial(30)])


def test_candidates_are_of_the_precision_that_is_asked_for_and_begin_plain() -> None:
    for device in ("cpu", "cuda"):
        found = tune.candidates("bf16", device)
        assert found[0] == PLAIN
        assert {settings.precision for settings in found} == {"bf16"}
        assert len(set(found)) == len(found)
    with pytest.raises(ValueError, match="tf32"):
        tune.candidates("tf32", "cpu")


def tuning(**changes: object) -> Tuning:
    facts = {"model": CARD.name, "precision": "bf16", "device": "cpu", "hardware": "a CPU", "processes": 2}
    return Tuning(**{**facts, "torch": "2", "settings": FASTER, "trials": (trial(30),), **changes})  # pyright: ignore


def test_what_was_saved_is_found_again_by_model_precision_and_device(store: str) -> None:
    assert tune.find(store, CARD, "bf16", "cpu") is None
    tune.save(store, CARD, tuning())
    assert tune.find(store, CARD, "bf16", "cpu") == FASTER
    assert tune.find(store, CARD, "fp32", "cpu") is None
    assert tune.find(store, CARD, "bf16", "cuda") is None
    tune.save(store, CARD, tuning(settings=PLAIN))
    assert tune.find(store, CARD, "bf16", "cpu") == PLAIN


def test_files_of_tunings_keep_the_names_of_their_fields(store: str) -> None:
    tune.save(store, CARD, tuning())
    stored = json.loads(storage.read(tune.uri(store, CARD, "bf16", "cpu")))
    names = {"model", "precision", "device", "hardware", "processes", "torch", "settings", "trials"}
    assert stored.keys() == names
    measured = {"images_per_second": 30, "agreeing": 30, "pictures": 32, "difference": 0.01, "failure": None}
    assert stored["trials"] == [{"settings": asdict(FASTER), **measured}]


def test_a_timm_models_tuning_has_a_file_name(store: str) -> None:
    card = replace(CARD, name="timm:resnet18")
    tune.save(store, card, tuning(model=card.name))
    assert tune.find(store, card, "bf16", "cpu") == FASTER
    assert ":" not in tune.uri(store, card, "bf16", "cpu").rpartition("/")[2]


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"{}", b'{"model": "other", "precision": "bf16", "device": "cpu", "settings": {}}'],
)
def test_a_file_that_is_no_tuning_is_named(store: str, content: bytes) -> None:
    storage.put(tune.uri(store, CARD, "bf16", "cpu"), content)
    with pytest.raises(ValueError, match=r"efficientnet_lite0-bf16-cpu\.json: not a tuning of efficientnet_lite0"):
        tune.find(store, CARD, "bf16", "cpu")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # the compiler's own use of it
@pytest.mark.slow
def test_without_a_compiler_compiling_is_said_to_be_impossible_and_the_rest_goes_on(monkeypatch) -> None:
    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/nowhere/g++"))
    measurer = Measurer(CARD, "cpu")
    said = measurer.prepare(Settings(compile=True))
    assert isinstance(said, str)
    assert "compiler" in said
    likeness = measurer.prepare(Settings(fold=True, channels_last=True, batch_size=8))
    assert isinstance(likeness, Likeness)
    assert likeness.agreeing == likeness.images == 32
    assert 0 < likeness.difference < 1e-5
    assert measurer.measure(0.01) > 0


def test_classes_differ_from_picture_to_picture_so_that_agreement_means_something() -> None:
    assert len(set(Measurer(CARD, "cpu")._plain.classes.flatten().tolist())) > 4


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_tuning_measures_each_candidate_in_as_many_processes_as_there_will_be_actors(monkeypatch) -> None:
    monkeypatch.setattr(tune, "_CPU", ({"fold": True, "batch_size": 8},))
    monkeypatch.setattr(tune, "_SECONDS", 0.01)
    seen: list[Trial] = []
    found = tune.tune(CARD, "fp32", "cpu", seen.append)
    assert list(found.trials) == seen
    assert [one.settings for one in seen] == tune.candidates("fp32", "cpu")
    assert all(one.images_per_second and one.agreeing == 32 for one in seen)
    assert found.processes == 2
    assert found.settings in {one.settings for one in seen}
