"""What cards claim of size and cost is computed again, exactly; the one wrong file size is found."""

import dataclasses

import pytest

import zoo
from tests.support.paths import SEEDS
from zoo.audit import CardFinding, audit
from zoo.cards.reader import read_cards

DOCUMENTS = sorted(SEEDS.glob("*.txt"))
HOSTED = [name for name in zoo.names() if not name.startswith(("sknet", "efficientnet"))]


def found(card: zoo.Card) -> dict[str, CardFinding]:
    return {finding.what: finding for finding in audit(card)}


@pytest.mark.parametrize("name", HOSTED)
def test_flops_are_the_cards_to_the_last_digit_and_parameters_exact(name: str):
    card = zoo.card(name)
    findings = found(card)
    assert findings["FLOPs"].computed == findings["FLOPs"].claimed == card.claimed_flops
    assert findings["parameters"].computed == card.params
    assert findings["parameters"].agrees
    assert abs(card.params - (card.claimed_params or 0)) <= 5000  # published in units of ten thousand
    assert 1.25 < findings["FLOPs"].computed / findings["multiply-accumulates"].computed < 1.32


def test_the_file_sizes_of_the_seed_documents_betray_one_wrong_file():
    cards = [card for path in DOCUMENTS for card in read_cards(path.read_text(encoding="utf-8"), path.name)]
    sizes = {card.name: found(card)["file size"] for card in cards if card.weights and card.weights.size}
    assert len(sizes) == 16
    assert [name for name, finding in sizes.items() if not finding.agrees] == ["resnest200e"]
    assert found(zoo.card("resnest200e"))["file size"].agrees is None  # corrected: the true size is not published


def test_what_sknets_readme_counts_is_called_different_and_explained():
    findings = found(zoo.card("sknet101"))
    assert (findings["parameters"].agrees, findings["FLOPs"].agrees) == (False, False)
    assert {"Parameters", "FLOPs"} <= {erratum.field for erratum in zoo.card("sknet101").errata}
    assert found(zoo.card("sknet50"))["parameters"].agrees


def test_a_claim_that_is_wrong_in_its_last_digit_differs():
    card = zoo.card("selecsls42b")
    wrong = dataclasses.replace(card, claimed_flops=3824022529, claimed_params=32_470_000)
    assert (found(wrong)["FLOPs"].agrees, found(wrong)["parameters"].agrees) == (False, False)
