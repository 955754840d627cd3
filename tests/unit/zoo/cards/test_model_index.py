"""Covers zoo.cards.model_index on published cards, whole, flat, guttered or in a page: nothing is lost or guessed."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from tests.support.paths import ROOT, SEEDS
from zoo.cards import model_index
from zoo.cards.reader import read_cards

PUBLISHED = ROOT / "zoo" / "cards" / "published"
SEED_OF = {
    "selecsls": "000_d154f08bd5158149.txt",
    "res2next": "001_1f82866bd13715f7.txt",
    "sknet": "002_315a31c36129f727.txt",
    "ssl_resnext": "003_7ae4b63eeb3ba6a2.txt",
    "resnest": "004_7adbc3dfd1b49619.txt",
}
# name: (top-1, top-5, parameters, FLOPs, image size, crop, interpolation, digest in the file's name)
CLAIMED = {
    "selecsls": {
        "selecsls42b": (77.18, 93.39, 32_460_000, 3824022528, 224, 0.875, "bicubic", "8af30141"),
        "selecsls60": (77.99, 93.83, 30_670_000, 4610472600, 224, 0.875, "bicubic", "bbf87526"),
        "selecsls60b": (78.41, 94.18, 32_770_000, 4657653144, 224, 0.875, "bicubic", "94e619b5"),
    },
    "res2next": {"res2next50": (78.24, 93.91, 24_670_000, 5396798208, 224, 0.875, "bilinear", "6ef7e7bf")},
    "sknet": {
        "sknet50": (79.21, None, 27_500_000, 4470000000, 224, 0.875, "bilinear", None),
        "sknet101": (79.81, None, 48_900_000, 8460000000, 224, 0.875, "bilinear", None),
    },
    "ssl_resnext": {
        "ssl_resnext101_32x16d": (81.84, 96.09, 194_030_000, 46623691776, 224, 0.875, "bilinear", "15fffa57"),
        "ssl_resnext101_32x4d": (80.91, 95.73, 44_180_000, 10298145792, 224, 0.875, "bilinear", "dc43570a"),
        "ssl_resnext101_32x8d": (81.61, 96.04, 88_790_000, 21180417024, 224, 0.875, "bilinear", "2cfe2f8b"),
        "ssl_resnext50_32x4d": (80.30, 95.41, 25_030_000, 5472648192, 224, 0.875, "bilinear", "ddb3e555"),
    },
    "resnest": {
        "resnest101e": (82.88, 96.31, 48_280_000, 17423183648, 256, 0.875, "bilinear", "22405ba7"),
        "resnest14d": (75.51, 92.52, 10_610_000, 3548594464, 224, 0.875, "bilinear", "9c8fe254"),
        "resnest200e": (83.85, 96.89, 70_200_000, 45954387872, 320, 0.909, "bicubic", "22405ba7"),
        "resnest269e": (84.53, 96.99, 110_930_000, 100830307104, 416, 0.928, "bicubic", "0cc87c48"),
        "resnest26d": (78.48, 94.30, 17_070_000, 4678918720, 224, 0.875, "bilinear", "50eb607c"),
        "resnest50d": (80.96, 95.38, 27_480_000, 6937106336, 224, 0.875, "bilinear", "528c19ca"),
        "resnest50d_1s4x24d": (81.00, 95.33, 25_680_000, 5686764544, 224, 0.875, "bicubic", "d4a4f76f"),
        "resnest50d_4s2x40d": (81.11, 95.55, 30_420_000, 5657064720, 224, 0.875, "bicubic", "41d14ed0"),
    },
}


def seed(family: str) -> str:
    return (SEEDS / SEED_OF[family]).read_text(encoding="utf-8")


@pytest.mark.parametrize("family", SEED_OF)
def test_every_seed_document_gives_its_models_with_the_right_values(family: str):
    found = {
        card.name: (
            *(next((c.value for c in card.claims if c.metric == m and c.size is None), None) for m in ("top1", "top5")),
            *(card.claimed_params, card.claimed_flops, card.preprocessing.size, card.preprocessing.crop_pct),
            *(card.preprocessing.interpolation, card.weights.sha256 if card.weights else ""),
        )
        for card in read_cards(seed(family), family)
    }
    assert found == CLAIMED[family]


def test_the_readmes_second_size_is_a_claim_of_its_own():
    claims = {card.name: card.claims for card in read_cards(seed("sknet"), "sknet")}
    assert {name: [(c.value, c.size) for c in found] for name, found in claims.items()} == {
        "sknet50": [(79.21, None), (80.68, 320)],
        "sknet101": [(79.81, None), (81.60, 320)],
    }


@pytest.mark.parametrize("family", SEED_OF)
def test_a_published_card_says_what_its_seed_says_but_for_its_errata(family: str):
    ours = {e["Name"]: e for e in model_index.read((PUBLISHED / f"{family}.yaml").read_text(), family)}
    for theirs in model_index.read(seed(family), family):
        card = ours.pop(theirs["Name"])
        corrected = {e["Field"]: e for e in card["Errata"] if "Published" in e}
        said = {
            "Weights": theirs["Weights"],
            "Results": theirs["Results"],
            "Code": theirs["Code"],
            **theirs["Metadata"],
        }
        results = [result for result in card["Results"] if "Source" not in result]  # others' numbers were added
        now = {"Weights": card["Weights"], "Results": results, "Code": card["Code"], **card["Metadata"]}
        changed = {key for key, value in said.items() if now.get(key) != value}
        assert changed == set(corrected)
        assert all(corrected[key]["Published"] == said[key] for key in changed)
        assert all(corrected[key].get("Correct") == now[key] for key in changed)
        added = {e["Field"]: e["Correct"] for e in card["Errata"] if "Correct" in e and "Published" not in e}
        assert {key: now[key] for key in now.keys() - said.keys()} == {k: v for k, v in added.items() if k not in said}
        assert card["Paper"] == theirs["Paper"]
    assert not ours


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_fast_reading_of_the_zoos_own_cards_equals_the_checked_one(path: Path):
    assert model_index.read_own(path.read_text()) == model_index.read(path.read_text(), path.name)


def test_resnest200e_has_its_own_weights_again_and_says_why():
    card = zoo.card("resnest200e")
    assert card.weights is not None
    assert (card.weights.sha256, card.weights.size) == ("75117900", None)
    erratum = next(erratum for erratum in card.errata if erratum.field == "Weights")
    assert "resnest101-22405ba7.pth" in str(erratum.published)
    assert "resnest101e's file" in erratum.reason


def test_a_flat_document_that_yaml_reads_silently_wrong_is_read_right():
    comment = seed("res2next").partition("<!--")[2].partition("-->")[0]
    assert yaml.safe_load(comment)["Models"] == [{"Name": "res2next50"}]  # what a parser alone would believe
    (entry,) = model_index.read(seed("res2next"), "seed")
    assert entry["Metadata"]["Crop Pct"] == "0.875"
    assert entry["Paper"]["Title"] == "Res2Net: A New Multi-scale Backbone Architecture"


def strip(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def gutter(text: str) -> str:
    return "".join(f"{line}\n|\n|\n" for line in text.splitlines())


def bar(text: str) -> str:
    return "\n".join(f"| {line}" for line in text.splitlines())


def page(text: str) -> str:
    return f"You can not select more than 25 topics\n\n# Title\n- a list: of things\n\n<!--\n{text}\n-->\nthe end\n"


def windows(text: str) -> str:
    return text.replace("\n", "\r\n")


@pytest.mark.parametrize("family", SEED_OF)
@given(damage=st.lists(st.sampled_from([strip, gutter, bar, page, windows]), unique=True, max_size=4))
@settings(max_examples=25, deadline=None)
def test_no_damage_changes_what_is_read(family: str, damage: list):
    whole = yaml.safe_load((PUBLISHED / f"{family}.yaml").read_text())
    for model in whole["Models"]:
        model.pop("Errata", None)  # prose that is folded over several lines needs its indentation
    text = yaml.safe_dump(whole, sort_keys=False, width=1000)
    expected = model_index.read(text, family)
    assert len(expected) == len(CLAIMED[family])
    for step in sorted(damage, key=[strip, windows, gutter, bar, page].index):
        text = step(text)
    assert model_index.read(text, family) == expected


TESTED = {"ID": "resnest14d", "Image Size": 9, "Crop Pct": 1, "Interpolation": "bicubic"}
FLOW = "{ID: resnest14d, Image Size: 9, Crop Pct: 1, Interpolation: bicubic}"
BLOCK = "".join(f"    {key}: {value}\n" for key, value in TESTED.items())


@pytest.mark.parametrize(
    "text",
    [
        f"{{Models: [{{Name: a, Metadata: {FLOW}}}]}}",
        f"Models:\n- {{Name: a, Metadata: {FLOW}}}\n",
        f'"Models" :  # mine\n - Name: a\n   Metadata: {FLOW}',
        json.dumps({"Models": [{"Name": "a", "Metadata": TESTED}]}),
        f"My page\n\n```yaml\nModels:\n- Name: a\n  Metadata:\n{BLOCK}```\nmore\n",
        f"Skip to content\nSign in\nModels:\n- Name: a\nMetadata:\n{strip(BLOCK)}",
    ],
)
def test_every_way_of_writing_the_same_card_is_read(text: str):
    (card,) = read_cards(text, "x")
    assert (card.name, card.architecture, card.preprocessing.geometry) == (
        "a",
        "resnest14d",
        zoo.Geometry(9, 9, "bicubic"),
    )


@pytest.mark.parametrize(("before", "after"), [("#P |", "P |"), ("27.5M", "many"), ("side = 256", "side = 0")])
def test_a_table_that_cannot_be_read_is_refused_and_does_not_crash(before: str, after: str):
    page = seed("sknet").replace(before, after)
    assert page != seed("sknet")
    with pytest.raises(ValueError, match=r"sknet: its readme has no table of trained models"):
        read_cards(page, "sknet")
