"""Models are found by name and pattern, and every card of the table is true of its architecture."""

import dataclasses
import importlib
import re

import pytest
import torch

import zoo
from zoo.architectures.table import ARCHITECTURES


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


def test_the_eighteen_published_models_and_the_one_whose_weights_are_a_package_are_there():
    assert len(zoo.names("selecsls*")) == 3
    assert len(zoo.names("res2next*")) == 1
    assert len(zoo.names("sknet*")) == 2
    assert len(zoo.names("ssl_resnext*")) == 4
    assert len(zoo.names("resnest*")) == 8
    assert len(zoo.names()) == 19


@pytest.mark.parametrize("name", zoo.names())
def test_a_card_says_the_exact_parameters_of_its_architecture(name: str):
    with torch.device("meta"):
        model = zoo.create(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == zoo.card(name).params


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_key_map_named_by_an_architecture_exists(name: str):
    if key_map := ARCHITECTURES[name].key_map:
        module, _, function = key_map.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_a_users_cards_are_selected_beside_the_zoos_and_may_not_take_their_names():
    mine = dataclasses.replace(zoo.card("resnest50d"), name="mine")
    assert [card.name for card in zoo.select("mine,resnest50d", [mine])] == ["mine", "resnest50d"]
    assert "mine" in zoo.names("all", [mine])
    with pytest.raises(ValueError, match="there is already a card named 'resnest50d'"):
        zoo.select("all", [zoo.card("resnest50d")])


def test_a_model_can_be_made_of_a_card():
    mine = dataclasses.replace(zoo.card("efficientnet_lite0"), name="mine", num_classes=3)
    assert zoo.create(mine)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert mine.params == sum(parameter.numel() for parameter in zoo.create(mine).parameters())


@pytest.mark.parametrize(
    "name",
    ["org/model", "../model", "..", ".model", "-model", "", "a b", "a\nb", "a\0b", "a:b", "hf-hub:a/b", "é" * 101],
)
def test_a_name_that_cannot_be_a_folders_is_refused_and_named(name: str):
    with pytest.raises(ValueError, match=rf"^the name {re.escape(repr(name))} of a card is not valid: "):
        dataclasses.replace(zoo.card("resnest50d"), name=name)


@pytest.mark.parametrize("name", ["timm:resnet50.a1_in1k", "ResNet-50_v1.5", "réseau", "x" * 200])
def test_names_of_timms_models_and_of_other_letters_are_fine(name: str):
    assert dataclasses.replace(zoo.card("resnest50d"), name=name).name == name


@pytest.mark.parametrize("num_classes", [0, -1])
def test_a_classifier_needs_a_class(num_classes: int):
    with pytest.raises(ValueError, match=f"num_classes={num_classes}"):
        zoo.create("efficientnet_lite0", num_classes=num_classes)
