"""Covers pipelines.data.grouping: which members of one base name are which sample."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.grouping import Rule
from pipelines.data.suffixes import is_picture

FIELDS = st.lists(
    st.builds(
        lambda name, suffix: f"{name}{suffix}",
        st.sampled_from(["", "a.", "b.", "1.", "output.", "a.b."]),
        st.sampled_from(["jpg", "png", "gif", "cls", "txt", "json"]),
    ),
    unique=True,
    max_size=8,
)


def told(fields: str, rule: Rule = Rule(), elsewhere: str = "") -> list[tuple]:  # noqa: B008 (frozen)
    """Picture, label, and whether the key goes up to the last dot or why there is no picture, by field."""
    names = fields.split()

    def name(place: int | None) -> str | None:
        return None if place is None else names[place]

    return [
        (name(part.picture), name(part.label), part.error.partition(":")[0] or part.dotted)
        for part in rule.parts(names, frozenset(elsewhere.split()))
    ]


@pytest.mark.parametrize(
    ("fields", "samples"),
    [
        ("jpg cls", [("jpg", "cls", False)]),
        ("jpg", [("jpg", None, False)]),
        ("jpg cls seg.png", [("jpg", "cls", False)]),
        ("depth.png flow.png jpg cls", [("jpg", "cls", False)]),
        ("jpg seg.png", [("jpg", None, False)]),
        ("jpg gif cls", [("jpg", "cls", False)]),
        ("gif cls", [("gif", "cls", False)]),
        ("input.jpg output.cls", [("input.jpg", "output.cls", False)]),
        ("input.jpg label.cls", [("input.jpg", "label.cls", False)]),
        ("input.jpg cls", [("input.jpg", "cls", False)]),
        ("rgb.jpg depth.tif cls", [("rgb.jpg", "cls", False)]),
        ("v1.jpg v1.cls", [("v1.jpg", "v1.cls", True)]),
        ("v1.jpg", [("v1.jpg", None, True)]),
        ("v1.jpg v1.cls v2.jpg v2.cls", [("v1.jpg", "v1.cls", True), ("v2.jpg", "v2.cls", True)]),
        ("v1.jpg v1.cls v1.seg.png", [("v1.jpg", "v1.cls", True)]),
        ("v1.seg.png v1.jpg v1.depth.png", [("v1.jpg", None, True)]),
        ("v1.jpg v1.seg.png v2.jpg v2.seg.png", [("v1.jpg", None, True), ("v2.jpg", None, True)]),
        ("v1.jpg v1.cls v1.big.jpg v1.big.cls", [("v1.jpg", "v1.cls", True), ("v1.big.jpg", "v1.big.cls", True)]),
        ("v1.jpg v1.2.jpg v1..png", [("v1.jpg", None, True), ("v1.2.jpg", None, True)]),
        ("jpg cls v2.jpg v2.cls", [("jpg", "cls", False), ("v2.jpg", "v2.cls", True)]),
        ("0001.jpg 0002.jpg 0003.jpg", [(f"000{i}.jpg", None, True) for i in (1, 2, 3)]),
        ("jpg png cls", [(None, "cls", "several pictures")]),
        ("left.jpg right.jpg cls", [(None, "cls", "several pictures")]),
        ("cls", [(None, "cls", False)]),
        ("jpg cls aux.cls", [("jpg", "cls", False)]),
    ],
)
def test_a_group_is_the_samples_that_practitioners_mean(fields: str, samples: list) -> None:
    assert told(fields) == samples


def test_pictures_that_recur_under_their_names_are_several_of_one_sample_and_numbers_are_keys() -> None:
    assert told("image.jpg mask.png") == [("image.jpg", None, True), ("mask.png", None, True)]
    assert told("image.jpg mask.png", elsewhere="image.jpg mask.png") == [(None, None, "several pictures")]
    assert told("0.jpg 1.jpg", elsewhere="0.jpg 1.jpg") == [("0.jpg", None, True), ("1.jpg", None, True)]


def test_a_named_picture_without_a_label_beside_a_labelled_one_is_no_sample_if_it_recurs() -> None:
    named, first = "rgb.jpg rgb.cls seg.png", [("rgb.jpg", "rgb.cls", True)]
    assert told(named) == [*first, ("seg.png", None, True)]
    assert told(named, elsewhere="rgb.jpg seg.png") == first
    assert told("a.jpg a.cls b.jpg", elsewhere="c.jpg d.jpg") == [("a.jpg", "a.cls", True), ("b.jpg", None, True)]
    assert told("1.jpg 1.cls 2.jpg", elsewhere="1.jpg 2.jpg") == [("1.jpg", "1.cls", True), ("2.jpg", None, True)]


def test_the_options_name_the_picture_and_the_label() -> None:
    assert told("jpg png cls", Rule(image_field="png")) == [("png", "cls", False)]
    assert told("left.jpg right.jpg left.cls", Rule(image_field="left.jpg")) == [("left.jpg", "left.cls", False)]
    assert told("jpg cls", Rule(image_field="png")) == [(None, "cls", "no image")]
    assert told("jpg json cls", Rule(label_field="json")) == [("jpg", "json", False)]
    assert told("jpg cls", Rule(label_field="json")) == [("jpg", None, False)]
    assert told("a.jpg a.json b.jpg b.json", Rule(label_field="json")) == [
        ("a.jpg", "a.json", True), ("b.jpg", "b.json", True)
    ]  # fmt: skip


@given(fields=FIELDS, elsewhere=FIELDS)
def test_no_member_is_in_two_samples_and_no_picture_is_lost_without_another_or_a_reason(fields, elsewhere) -> None:
    parts = Rule().parts(fields, frozenset(elsewhere))
    used = [place for part in parts for place in (part.picture, part.label) if place is not None]
    assert len(used) == len(set(used))
    assert all(is_picture(fields[part.picture]) for part in parts if part.picture is not None)
    if any(map(is_picture, fields)):
        assert any(part.picture is not None or part.error for part in parts)
    assert [part.place for part in parts] == sorted(part.place for part in parts)
