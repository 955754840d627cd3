"""Several right labels an image: counted as the rule says, row by row."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data import evaluation_sets
from pipelines.evaluation import metrics, relabel
from pipelines.records import cell_schema

CLASSES, TOP = 12, 6
REAL = evaluation_sets.known_sets()["imagenet-real"]
ROWS = st.lists(
    st.tuples(
        st.permutations(range(CLASSES)), st.lists(st.integers(0, CLASSES - 1), max_size=3, unique=True), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


def cell(predictions, bad) -> pa.Table:
    rows = [
        {
            "index": i,
            "key": f"val/ILSVRC2012_val_{i + 1:08d}",
            "label": 0,
            "classes": None if wrong else list(classes[:TOP]),
            "probs": None if wrong else [0.5 / 2**j for j in range(TOP)],
            "label_prob": None if wrong else 0.25,
            "sq_prob": None if wrong else 0.3,
            "error": "empty file" if wrong else None,
        }
        for i, (classes, wrong) in enumerate(zip(predictions, bad, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=cell_schema(TOP))


@given(rows=ROWS)
def test_a_prediction_is_right_where_any_label_is_among_its_first_k_and_images_without_labels_do_not_count(
    rows,
) -> None:
    predictions, sets, bad = zip(*rows, strict=True)
    view = replace(REAL, labels="drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relabel, "_label_sets", lambda _: list(map(list, sets)))
        found = metrics.summary(metrics.tally(relabel.relabelled(cell(predictions, bad), view), CLASSES))
    counted = [(classes, some, wrong) for classes, some, wrong in rows if some]
    assert found.n == len(counted)
    assert found.errors == sum(wrong for *_, wrong in counted)
    for k, count in ((1, found.top1_count), (5, found.top5_count)):
        assert count == sum(not wrong and bool(set(classes[:k]) & set(some)) for classes, some, wrong in counted)


def test_imagenet_real_is_the_published_list() -> None:
    sets = relabel._label_sets(REAL.labels)
    assert (len(sets), sum(map(bool, sets))) == (50_000, REAL.images)
    assert sets[:3] == [[], [970, 795], [230, 231]]


@pytest.mark.parametrize(
    "key", ["cat", "ILSVRC2012_val_00000000", "ILSVRC2012_val_00050001", "xILSVRC2012_val_00000001"]
)
def test_a_key_that_says_no_place_in_the_list_is_refused(key) -> None:
    rows = cell([range(CLASSES)], [False])
    rows = rows.set_column(1, "key", pa.array([key]))
    with pytest.raises(ValueError, match=f"key '{key}' does not say which of the 50000 images it is"):
        relabel.relabelled(rows, REAL)


@pytest.mark.parametrize("key", ["{}", "val/{}", "{}.JPEG", "{}_n01751748", "val/{}_n01751748.JPEG"])
def test_an_image_is_found_by_its_number_whatever_stands_around_it(key) -> None:
    rows = cell([range(CLASSES)], [False])
    rows = rows.set_column(1, "key", pa.array([key.format("ILSVRC2012_val_00000003")]))
    assert relabel.relabelled(rows, REAL)["label"].to_pylist() == [230]


@pytest.mark.parametrize("content", ["{}", "[1]", '[["tench"]]', "[[1.5]]", "[[null]]", "[[", ""])
def test_a_file_that_holds_no_labels_is_refused_by_name(tmp_path, content) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"labels\.json: (not JSON|expected a list of lists of labels)"):
        relabel.relabelled(cell([range(CLASSES)], [False]), replace(REAL, labels=str(path)))
