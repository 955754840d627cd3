"""Models are found by name and pattern, and every card of the table is true of its architecture."""

import importlib

import pytest
import torch

import zoo
from zoo.published import CARDS


def test_every_model_has_its_own_name():
    assert zoo.names() == tuple(sorted(card.name for card in CARDS))
    assert len(set(zoo.names())) == len(CARDS)


@pytest.mark.parametrize(
    "pattern", ["all", "*", "efficientnet_lite0", "efficient*", " efficientnet_lite0 , efficient*"]
)
def test_patterns_select_sorted_names_without_doubles(pattern: str):
    found = zoo.names(pattern)
    assert "efficientnet_lite0" in found
    assert list(found) == sorted(set(found))


@pytest.mark.parametrize("pattern", ["efficientnet_lite1", "efficientnet_lite0,efficientnet_lite1"])
def test_an_unknown_name_is_answered_with_near_ones(pattern: str):
    with pytest.raises(
        ValueError, match=r"'efficientnet_lite1'; did you mean efficientnet_lite0.*known: .*efficientnet"
    ):
        zoo.names(pattern)


@pytest.mark.parametrize("pattern", ["", "efficientnet_lite0,", "zzz*", "EFFICIENTNET*"])
def test_a_pattern_that_selects_nothing_is_an_error(pattern: str):
    with pytest.raises(ValueError, match=r"no model matches .*known: "):
        zoo.names(pattern)


def test_a_card_is_found_by_its_exact_name_only():
    assert zoo.card("efficientnet_lite0").params == 4_652_008
    with pytest.raises(ValueError, match="no model matches 'efficient\\*'"):
        zoo.card("efficient*")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_an_architecture_has_exactly_the_parameters_its_card_claims(card: zoo.Card):
    with torch.device("meta"):
        model = zoo.create(card.name)
    assert sum(parameter.numel() for parameter in model.parameters()) == card.params


@pytest.mark.parametrize("card", [card for card in CARDS if card.key_map], ids=lambda card: card.name)
def test_a_key_map_named_by_a_card_exists(card: zoo.Card):
    module, _, function = (card.key_map or "").partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_cell_can_be_named_by_the_digest_of_the_weights(card: zoo.Card):
    digest = zoo.weights_digest(card.name)
    assert len(digest) >= 8
    assert int(digest, 16) > 0


@pytest.mark.parametrize("num_classes", [0, -1])
def test_a_classifier_needs_a_class(num_classes: int):
    with pytest.raises(ValueError, match=f"num_classes={num_classes}"):
        zoo.create("efficientnet_lite0", num_classes=num_classes)
