"""Covers summary and pictures: the numbers of a selection against counting by hand, and its figures."""

from io import BytesIO

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.selection import pictures, thumbnails
from pipelines.selection.files import CHOSEN
from pipelines.selection.summary import summarise, summarise_classes, summary_csv, summary_lines

CLASSES, K = 5, 4


def table(rows: list[tuple[int, int, int | None]]) -> pa.Table:
    """CHOSEN rows of (label, index, truth), ranked by index, K of a class at most."""
    found = []
    for label in range(CLASSES):
        for rank, (_, index, truth) in enumerate([row for row in sorted(rows) if row[0] == label][:K], 1):
            place = {"label": label, "rank": rank, "score": 1 / rank, "shard": 0, "index": index}
            found.append(place | {"truth": truth})
    return pa.Table.from_pylist(found, schema=CHOSEN)


ROWS = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, 6), st.sampled_from([None, 0, 1])), unique_by=lambda r: r[:2]
).map(lambda rows: [(label, index, [None, 0, 1, 2][index % 4]) for label, index, _ in rows])


@given(rows=ROWS)
def test_the_numbers_are_those_of_counting(rows) -> None:
    chosen = table(rows)
    every, classes = chosen.to_pylist(), summarise_classes(chosen, CLASSES, K)
    for row in classes.to_pylist():
        own = {r["rank"]: r for r in every if r["label"] == row["label"]}
        assert (row["chosen"], row["shortfall"]) == (len(own), K - len(own))
        scores = {"first": own.get(1), "middle": own.get(K // 2), "last": own.get(K)}
        for name, there in scores.items():
            assert row[name] == (there and np.float32(there["score"]))
        assert row["labelled"] == sum(r["truth"] is not None for r in own.values())
        assert row["right"] == sum(r["truth"] == r["label"] for r in own.values())
    summary = summarise(chosen, classes)
    found = summary.numbers()
    places = [r["index"] for r in every]
    assert (found["chosen"], found["images"]) == (len(every), len(set(places)))
    assert found["images_of_several_classes"] == sum(places.count(place) > 1 for place in set(places))
    assert found["shortfall"] == CLASSES * K - len(every)
    labels = [r["truth"] for r in every if r["truth"] is not None]
    assert ("precision" in found) == bool(labels)
    if labels:
        assert found["precision"] == sum(r["truth"] == r["label"] for r in every) / len(labels)
        assert found["named_classes"] == len(set(labels))
        assert found["first_right"] == sum(r["truth"] == r["label"] for r in every if r["rank"] == 1)
    assert len(summary_lines(summary, K)) == 1 + bool(found["shortfall"]) + 2 * bool(labels)


def test_the_csv_has_a_row_a_class_with_its_name() -> None:
    content = summary_csv(summarise_classes(table([(0, 0, None), (2, 1, 2)]), CLASSES, K), list("abcde")).decode()
    lines = content.splitlines()
    assert lines[0] == '"label","name","chosen","shortfall","first","middle","last","labelled","right"'
    assert lines[3] == '2,"c",1,3,1,,,1,1'
    assert len(lines) == 1 + CLASSES


def test_a_sheet_shows_the_first_the_middle_and_the_last_ranks() -> None:
    across = pictures.ACROSS
    assert pictures.shown_ranks(3) == [1, 2, 3]
    ranks = pictures.shown_ranks(1000)
    assert ranks == [*range(1, across + 1), *range(497, 497 + across), *range(1001 - across, 1001)]
    side = thumbnails.GEOMETRY.size
    for some in ([1], ranks, pictures.shown_ranks(13)):
        rows = [{"label": 1, "rank": r, "score": 1 / r, "pixels": bytes([200] * side * side * 3)} for r in some]
        rows[0]["pixels"] = b""
        shown = pa.Table.from_pylist(rows, schema=thumbnails.SCHEMA)
        png = pictures.sheet_png(shown, 1000, "1 $x$")
        assert png == pictures.sheet_png(shown, 1000, "1 $x$")
        picture = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
        grey = (picture == 200).all(axis=2).sum()
        one = (picture.shape[1] / across) ** 2
        assert abs(grey / one - (len(some) - 1)) < 0.35 * len(some)


def test_scores_are_drawn_for_any_selection() -> None:
    for rows in ([], [(0, 0, None)], [(label, index, 1) for label in range(CLASSES) for index in range(6)]):
        chosen = table(rows)
        png = pictures.scores_png(chosen, summarise_classes(chosen, CLASSES, K), K, "title")
        assert Image.open(BytesIO(png)).size == (1080, 504)
