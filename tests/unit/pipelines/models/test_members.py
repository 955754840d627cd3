"""Members and publication: the card and weights of a finished training, its lineage, and its pairs on a leaderboard."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import zoo
from pipelines import storage
from pipelines.cells.inventory import Holding, StoredColumn
from pipelines.leaderboard.pairs import related_pairs
from pipelines.models import members, mirror
from pipelines.records import Dataset
from pipelines.selection import lineage
from pipelines.training import checkpoint, publication, row_counts, specification
from pipelines.training.checkpoint import CheckpointContent, LearnerState
from pipelines.training.curve import curve_png
from pipelines.training.progress import CurvePoint, Position
from pipelines.training.specification import Training
from tests.support.small_trainings import CARD, CLASSES, put, stage
from tests.support.small_trainings import training as of_stages
from zoo.cards.reader import read_cards

METRICS = {"n": 48.0, "errors": 0.0, "top1": 87.5, "top5": 100.0}
MARK = {"selection": "5e1ec7ed", "teacher": "sage-12345678", "column": "sage-12345678-aa-bb", "format": "tar"}


def point(number: int, step: int, metrics: dict[str, float] | None = None) -> CurvePoint:
    validation = "set-0123" if metrics else None
    return CurvePoint(stage=number, step=step, loss=0.5, lr=0.1, metrics=metrics, validation=validation)


def finished(
    store: str, name: str = "pupil-00112233", selected: bool = True, **changes: Any
) -> tuple[Training, CheckpointContent]:
    """A training at its end, with weights that were never trained, and its last checkpoint's content."""
    data = put(f"{store}/data-{name}")
    if selected:
        storage.put(f"{store}/data-{name}/{lineage.MARK}", json.dumps(MARK).encode())
    card = replace(CARD, name=name)
    given = of_stages(f"{store}/training/{name}", [stage(data, mixup=0.2, **changes)], data, card=card)
    torch.manual_seed(0)
    network = card.network.build(CLASSES)
    state = LearnerState(network=network.state_dict(), optimiser={}, scaler={}, average=None)
    return given, CheckpointContent(learner=state, step=24, curve=(point(0, 24, METRICS),))


def test_a_member_is_found_by_its_name_and_has_the_weights_of_its_checkpoint(store: str) -> None:
    given, content = finished(store)
    lock = publication.publish_member(store, given, "00112233", content)
    (card,) = members.cards(store)
    assert [found.name for found in zoo.select("pupil-*", [card])] == ["pupil-00112233"]
    assert lock.file == f"pupil-00112233-{lock.sha256[:8]}.safetensors"
    model = mirror.load(card, mirror.find(store, card))
    for name, value in model.state_dict().items():
        assert torch.equal(value, content.learner.network[name])
    assert publication.publish_member(store, given, "00112233", content) == lock


def test_its_card_says_recipe_data_teacher_selection_and_what_was_measured(tmp_path: Path) -> None:
    given, content = finished(str(tmp_path))
    publication.publish_member(str(tmp_path), given, "00112233", content)
    text = storage.read(members.uri(str(tmp_path), "pupil-00112233"))
    (card,) = read_cards(text, "card")
    facts = dict(card.facts)
    data = given.stages[0].dataset
    assert facts["Pretrain Data"] == f"{data.name}-{data.digest}, 48 samples"
    assert json.loads(facts["Pretrain Recipe"])["mixup"] == 0.2
    assert (facts["Teacher"], facts["Selection"], facts["Seed"]) == ("sage-12345678", "5e1ec7ed", "5")
    assert members.descent(card) == members.Descent("00112233", "sage-12345678", "5e1ec7ed")
    assert "MixUp" in facts["Training Techniques"]
    assert [(claim.metric, claim.value, claim.dataset) for claim in card.claims] == [
        ("top1", 87.5, "set-0123"),
        ("top5", 100.0, "set-0123"),
    ]
    assert yaml.safe_load(text)["Models"][0]["Weights"].startswith(str(tmp_path))


def test_the_moving_average_is_what_is_published(tmp_path: Path) -> None:
    given, content = finished(str(tmp_path), ema=0.9)
    network = content.learner.network
    average = {name: value + 1 for name, value in network.items() if value.is_floating_point()}
    content = replace(content, learner=replace(content.learner, average=average))
    publication.publish_member(str(tmp_path), given, "00112233", content)
    (card,) = members.cards(str(tmp_path))
    loaded = mirror.load(card, mirror.find(str(tmp_path), card)).state_dict()
    assert torch.equal(loaded["fc.bias"], network["fc.bias"] + 1)


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path) -> None:
    given, content = finished(str(tmp_path))
    publication.publish_member(str(tmp_path), given, "00112233", content)
    content.learner.network["fc.bias"] += 1
    with pytest.raises(ValueError, match=r"its card names SHA-256 \w+, .*lock.json has"):
        publication.publish_member(str(tmp_path), given, "00112233", content)


def test_a_training_is_finished_at_the_last_step_of_its_last_stage_alone(tmp_path: Path) -> None:
    given, content = finished(str(tmp_path))
    assert publication.final_content(given) is None
    checkpoint.write(given.home, Position(0, given.stages[0].steps - 1), content)
    assert publication.final_content(given) is None
    checkpoint.write(given.home, Position(0, given.stages[0].steps), content, complete=False)
    assert publication.final_content(given) is None
    checkpoint.write(given.home, Position(0, given.stages[0].steps), content)
    assert publication.final_content(given)


def test_a_curve_is_drawn_over_all_stages(tmp_path: Path) -> None:
    data = put(str(tmp_path))
    two = [stage(data), replace(stage(data, epochs=2), name="finetune")]
    curve = [point(0, 10), point(0, 24), point(1, 6, METRICS)]
    assert curve_png(two, curve, "pupil").startswith(b"\x89PNG")
    assert curve_png(two, curve, "pupil") == curve_png(two, curve, "pupil")


def test_a_folder_says_which_selection_it_is_or_nothing(tmp_path: Path) -> None:
    data = put(str(tmp_path))
    assert lineage.origin(data) is None
    (tmp_path / lineage.MARK).write_text(json.dumps(MARK))
    assert lineage.origin(data) == lineage.Origin(
        selection="5e1ec7ed", teacher="sage-12345678", column=str(MARK["column"])
    )
    (tmp_path / lineage.MARK).write_text("{}")
    with pytest.raises(ValueError, match=r"materialized.json is damaged"):
        lineage.origin(data)


def test_a_student_is_held_against_its_teacher_and_the_baselines_of_its_architecture(tmp_path: Path) -> None:
    cards = [
        member("student-1", "cifar_resnet8", teacher="sage-1,sage-2", selection="aa"),
        member("sage-1", "cifar_resnet20"),
        member("sage-2", "cifar_resnet20"),
        member("other-1", "cifar_resnet20"),
        member("baseline-1", "cifar_resnet8"),
        member("student-2", "cifar_resnet8", teacher="other-1", selection="bb"),
    ]
    data = put(str(tmp_path))
    plain: dict[str, object] = {
        "settings": {"precision": "fp32", "batch_size": 32},
        "decoder": "exact",
        "subset": None,
        "num_classes": 4,
    }
    plain["top"] = 4
    columns = tuple(column(card.name, plain, data) for card in cards)
    fast = column("baseline-1", plain | {"decoder": "fast"}, data)
    labelling = column("sage-1", plain | {"top": 1}, data)  # its pseudo-labels on the same data
    held = Holding(dataset=data, definition=None, columns=(*columns, fast, labelling), unreadable={})
    found = [(pair.a.model, pair.b.model) for pair in related_pairs([held], cards)]
    assert len(found) == len(set(found))
    assert set(found) == {
        ("sage-1", "student-1"),
        ("sage-2", "student-1"),
        ("baseline-1", "student-1"),
        ("other-1", "student-2"),
        ("baseline-1", "student-2"),
    }
    assert all(pair.a is not fast for pair in related_pairs([held], cards))


def member(name: str, architecture: str, **descent: str) -> zoo.Card:
    facts = {members.IDENTITY: "x", **{key.capitalize(): value for key, value in descent.items()}}
    return replace(CARD, name=name, architecture=architecture, facts=tuple(facts.items()))


def column(model: str, plan: dict, data: Dataset) -> StoredColumn:
    return StoredColumn(
        store="s", name=f"{model}-x", dataset=data, model=model, weights="ab", identity=plan, committed=data.shards
    )


def test_rows_that_no_manifest_says_are_counted_once(tmp_path: Path, local_ray: None) -> None:
    data = put(str(tmp_path / "data"))
    unknown = replace(stage(data), rows=(0,) * 4)
    given = of_stages(tmp_path / "home", [unknown], data)
    assert publication.with_rows(given) == given
    assert row_counts.count_rows(given, lambda _: None)[0].rows == (12,) * 4
    Path(data.shards[0].uri).unlink()  # it is not read again
    assert row_counts.count_rows(given, lambda _: None)[0].rows == (12,) * 4
    assert publication.with_rows(given).stages[0].rows == (12,) * 4


def test_the_identity_is_of_what_the_weights_depend_on(tmp_path: Path) -> None:
    data = put(str(tmp_path))
    plain = (CARD, (stage(data),), 0, "fp32", False)
    same = specification.training_id(replace(CARD, name="other"), *plain[1:])
    assert same == specification.training_id(*plain)
    others = [
        (replace(CARD, num_classes=5), *plain[1:]),
        (CARD, (stage(data, batch=32),), *plain[2:]),
        (CARD, (replace(stage(data), dataset=put(str(tmp_path / "more"), shards_=5)),), *plain[2:]),
        (*plain[:2], 1, *plain[3:]),
        (*plain[:3], "bf16", False),
    ]
    assert len({same, *(specification.training_id(*other) for other in others)}) == 6
