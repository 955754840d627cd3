"""The table of what models cost says what counting says."""

import dataclasses

import pytest

import zoo
from zoo import audit, macs


def counted(card: zoo.Card) -> int:
    return next(finding.computed for finding in audit.audit(card) if finding.what == "multiply-accumulates")


def test_every_card_of_the_zoo_costs_what_its_architecture_counts_to() -> None:
    cards = zoo.select("all")
    assert {card.name: macs.macs(card) for card in cards} == {card.name: counted(card) for card in cards}


def test_the_zoos_cards_need_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "audit", None)
    assert all(macs.macs(card) > 0 for card in zoo.select("all"))


def test_a_model_that_is_not_in_the_table_is_counted() -> None:
    card = dataclasses.replace(zoo.card("selecsls42b"), name="mine", num_classes=10)
    assert macs.macs(zoo.card("selecsls42b")) - macs.macs(card) == 990 * card.network.features
