"""Covers zoo.cards.reader and model_index on users' cards: what they give, and errors by place and value."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.cards.reader import read_cards

MINE = """
Models:
- Name: mine
  Metadata:
    ID: resnest50d
    Image Size: 224
    Crop Pct: 0.9
    Interpolation: bicubic
    Mean: [0.5, 0.5, 0.5]
    Std: [0.25, 0.25, 0.25]
    Classes: 10
    License: MIT
    SHA-256: 0123456789abcdef
    Epochs: 90
  Weights: s3://bucket/mine.pth
  Mirrors:
  - https://example.org/mine.pth
  Results:
  - Task: Image Classification
    Dataset: digits
    Metrics:
      Top 1 Accuracy: 97.5
"""


def test_a_users_card_needs_no_code():
    (card,) = read_cards(MINE, "mine.yaml")
    assert (card.name, card.architecture, card.num_classes) == ("mine", "resnest50d", 10)
    assert card.preprocessing.geometry == zoo.Geometry(224, 248, "bicubic")
    assert (card.preprocessing.mean, card.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)
    assert card.weights == zoo.WeightsFile(
        location="s3://bucket/mine.pth",
        sha256="0123456789abcdef",
        license="MIT",
        mirrors=("https://example.org/mine.pth",),
    )
    assert card.claims == (zoo.Claim(metric="top1", value=97.5, decimals=1, dataset="digits", source="mine.yaml"),)
    assert card.facts == (("Epochs", "90"),)


def without(key: str) -> str:
    return re.sub(rf"\n +{key}:.*", "", MINE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "found no model-index; expected a line `Models:`"),
        ("model-index:\n- name: x\n", "found Hugging Face's metadata"),
        ("Models:\n", r"Models: None is not of type 'array'"),
        ("* Models:\n", "the indentation is lost, and no container before"),
        ("Models: []\nModels:\n - a\n", "duplicate key 'Models'"),
        (MINE.replace("Name: mine", "Name: a b"), "'a b' does not match"),
        (MINE.replace("Name: mine", "Name: ../x"), r"'\.\./x' does not match"),
        (
            MINE.replace("resnest50d", "resnet50d"),
            "mine.yaml: mine: unknown architecture 'resnet50d'; did you mean resnest50d",
        ),
        (
            MINE.replace("Top 1 Acc", "Top 1 acc"),
            "mine: Metrics: unknown key 'Top 1 accuracy'; did you mean 'Top 1 Acc",
        ),
        (MINE.replace("Image Size: 224", "Image Size: 224.7"), r"Image Size: 224\.7 is not valid"),
        (
            MINE.replace("0.25, 0.25, 0.25", "0.25, .nan, 0.25"),
            r"expected a mean in \[0, 1\] and a std in \(0, 1\] per channel",
        ),
        (
            MINE.replace("0.5, 0.5, 0.5", "123.7, 116.3, 103.5"),
            r"expected a mean in \[0, 1\] and a std in \(0, 1\] per channel",
        ),
        (MINE.replace("Image Size: 224", "Image Size: 1000000"), r"expected 1 to 4096 px"),
        (MINE.replace("Image Size: 224", "Image Size: .inf"), r"Image Size: inf is not valid"),
        (MINE.replace("Classes: 10", "Classes: 40000"), "40000 is greater than the maximum of 32767"),
        (
            MINE.replace("Classes: 10", "Classes: 10\n    Label Order: devkit"),
            "label order devkit requires 1000 classes, found 10",
        ),
        (MINE.replace("Name: mine", "Name: all"), "'all' selects every model; give the card another name"),
        (
            MINE.replace("mine.pth\n  Mirr", "mine-01234568.pth\n  Mirr"),
            "SHA-256 0123456789abcdef differs from the one in the name",
        ),
        ("---\nmodel-index:\n- name: x\n---\n", "Hugging Face's metadata"),
        ("Models:\n - " + "[" * 3000, "not valid YAML"),
        ("{" * 3000, "begins like JSON and is not valid"),
        (without("Weights"), "mine: SHA-256 describes a file of weights, but the card has no Weights"),
        (without("Crop Pct"), "mine: Metadata: 'Crop Pct' is a required property"),
        (without("Interpolation"), "mine: Metadata: 'Interpolation' is a required property"),
        (MINE.replace("Crop Pct", "Crop pct"), "'Crop Pct' is a required property"),
        (MINE.replace("Classes", "classes"), "unknown key 'classes'; did you mean 'Classes'"),
        (MINE.replace("bicubic", "lanczos"), "Metadata.Interpolation: 'lanczos' is not one of"),
        (MINE.replace("0.9", "1.5"), r"mine: size 224 px, crop 1\.5: expected 1 to 4096 px and a crop in \(0, 1\]"),
        (MINE.replace("0.25, 0.25", "0.25"), r"Metadata.Std: \[0\.25, 0\.25\] is too short"),
        (
            MINE.replace("0.25, 0.25, 0.25", "0.25, 0, 0.25"),
            r"expected a mean in \[0, 1\] and a std in \(0, 1\] per channel",
        ),
        (
            MINE.replace("97.5", "0.975"),
            r"Results.0.Metrics.Top 1 Accuracy: 0\.975 is not a percentage; write it as 77\.18%",
        ),
        (MINE.replace("97.5", "101%"), "Results.0.Metrics.Top 1 Accuracy: '101%' is not a percentage"),
        (MINE.replace("  Weights:", "  Wieghts:"), "'Wieghts' was unexpected"),
        (MINE.replace("0123456789abcdef", "123"), "SHA-256"),
        (MINE.replace("    ID: resnest50d", "  ID: resnest50d"), "mine.yaml: not valid YAML: .*line 5"),
        (b"\xff\xfe", "not UTF-8 text"),
        ('{"readme": "# nothing"}', "no table of trained models"),
        ("{broken", "begins like JSON and is not valid"),
        ("Models:\n- Name: a\nstray: 1\n", "the indentation is lost, and no container before 'stray: 1' can hold it"),
    ],
)
def test_what_cannot_be_used_is_refused_by_place_and_value(text: str | bytes, told: str):
    with pytest.raises(ValueError, match=told):
        read_cards(text, "mine.yaml")


@given(
    st.text(max_size=300), st.sampled_from(["", "Models:\n", "Models:\n- Name: a\n  Metadata:\n", "<!--\nModels:\n"])
)
def test_arbitrary_text_is_refused_and_never_crashes(text: str, start: str):
    try:
        read_cards(start + text, "x")
    except ValueError as error:
        assert str(error).startswith("x: ")


def test_two_comments_of_a_page_are_both_read():
    other = MINE.replace("mine", "other").replace("Models", "Collections:\n- Name: x\nModels")
    assert [card.name for card in read_cards(f"<!--{MINE}-->\ntext\n<!--{other}-->", "page.md")] == ["mine", "other"]
