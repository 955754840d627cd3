"""Covers pipelines.data.evaluation_sets: those of the package are as published, a user's are checked."""

import pytest
import yaml

import zoo
from pipelines.data import evaluation_sets

MINE = {"Name": "mine", "Title": "My pictures", "Images": 10, "Claims": "digits", "Classes": [5, 1, 3]}


def put(tmp_path, *entries: dict) -> str:
    path = tmp_path / "sets.yaml"
    path.write_text(yaml.safe_dump({"Datasets": list(entries)}))
    return str(path)


def test_our_sets_have_their_published_sizes_and_classes() -> None:
    known = evaluation_sets.known_sets()
    sizes = {"val": 50_000, "real": 46_837, "v2": 10_000, "sketch": 50_889, "a": 7_500, "r": 30_000}
    assert {name: found.images for name, found in known.items()} == {f"imagenet-{k}": n for k, n in sizes.items()}
    assert {name: len(found.subset) for name, found in known.items() if found.subset} == {
        "imagenet-a": 200,
        "imagenet-r": 200,
    }
    assert {name: found.of for name, found in known.items() if found.of} == {"imagenet-real": "imagenet-val"}


def test_a_users_set_stands_beside_ours(tmp_path) -> None:
    found = evaluation_sets.named("mine", [put(tmp_path, MINE)])
    assert (found.title, found.images, found.claims, found.subset) == ("My pictures", 10, "digits", (1, 3, 5))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({**MINE, "Name": "imagenet-v2"}, "evaluation set 'imagenet-v2' exists already"),
        ({**MINE, "Images": 0}, "Datasets/0/Images: 0 is less than the minimum of 1"),
        ({**MINE, "Image": 3}, "'Image' was unexpected"),
        ({"Name": "mine"}, "'Title' is a required property"),
        ({**MINE, "Of": "imagenet-val"}, "'Labels' is a dependency of 'Of'"),
        ({**MINE, "Of": "imagenet-vla", "Labels": "l.json", "Key": "(.)"}, "did you mean imagenet-val"),
        ({**MINE, "Of": "imagenet-val", "Labels": "l.json", "Key": "("}, "is not a regular expression"),
        ({**MINE, "Of": "imagenet-val", "Labels": "l.json", "Key": "x"}, "has 0 groups"),
    ],
)
def test_what_is_no_definition_is_refused_by_place_and_value(tmp_path, entry, told) -> None:
    with pytest.raises(ValueError, match=r"sets\.yaml|mine") as refused:
        evaluation_sets.known_sets([put(tmp_path, entry)])
    assert told in str(refused.value)


def test_a_name_that_is_not_known_is_answered_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"--dataset imagenet-va: no such evaluation set; did you mean imagenet-val"):
        evaluation_sets.named("imagenet-va")
    with pytest.raises(ValueError, match=r"imagenet-real: is imagenet-val with other labels"):
        evaluation_sets.named("imagenet-real")


def test_classes_are_given_by_number_or_by_synset(tmp_path) -> None:
    said = {**MINE, "Classes": ["n01443537", 4, "n01440764", 1]}
    assert evaluation_sets.named("mine", [put(tmp_path, said)]).subset == (0, 1, 4)
    with pytest.raises(ValueError, match="mine: Classes: no class of ImageNet-1k has the synset n00000001"):
        evaluation_sets.known_sets([put(tmp_path, {**MINE, "Classes": ["n00000001"]})])


def test_a_view_of_a_view_is_refused(tmp_path) -> None:
    said = {**MINE, "Of": "imagenet-real", "Labels": "l.json", "Key": "(.)"}
    with pytest.raises(ValueError, match="Of 'imagenet-real': is relabelled itself"):
        evaluation_sets.known_sets([put(tmp_path, said)])


def test_every_set_that_a_published_card_claims_on_is_defined_once() -> None:
    known = [definition.claims for definition in evaluation_sets.known_sets().values()]
    assert {claim.dataset for name in zoo.names() for claim in zoo.card(name).claims} == set(known)
    assert len(known) == len(set(known))
