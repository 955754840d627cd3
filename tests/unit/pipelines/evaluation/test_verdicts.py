"""Covers verdicts: claims judged on made-up cells of a whole validation set."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import zoo
from pipelines.cells.column import Column
from pipelines.data import evaluation_sets
from pipelines.evaluation import metrics, verdicts
from pipelines.evaluation.verdicts import Measured
from pipelines.records import cell_schema
from zoo import Claim, Erratum
from zoo.weights import wanted

IMAGES, CLASSES = 50_000, 1000
VAL = evaluation_sets.named("imagenet-val")
CLAIM = Claim(metric="top1", value=77.18, dataset="ImageNet-1k validation", source="a card")
CARD = replace(zoo.card("selecsls42b"), claims=(CLAIM,), errata=())


def cell(right: int, errors: int = 0, images: int = IMAGES) -> pa.Table:
    """Rows of which the first `right` are right and the last `errors` are none."""
    label = np.arange(images, dtype=np.int32) % CLASSES
    first = np.where(np.arange(images) < right, label, (label + 1) % CLASSES)
    classes = ((first[:, None] + np.arange(5) * 7) % CLASSES).astype(np.int16)
    fine = np.arange(images) < images - errors

    def lists(values: np.ndarray) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, 5, mask=pa.array(~fine))

    columns = {
        "index": np.arange(images, dtype=np.int32),
        "key": [f"ILSVRC2012_val_{i + 1:08d}" for i in range(images)],
        "label": label,
        "classes": lists(classes),
        "probs": lists(np.broadcast_to(np.array([0.5, 0.2, 0.1, 0.05, 0.02], np.float32), (images, 5))),
        "label_prob": pa.array(np.full(images, 0.5, np.float32), mask=~fine),
        "sq_prob": pa.array(np.full(images, 0.3, np.float32), mask=~fine),
        "logsumexp": pa.nulls(images, pa.float32()),
        "digest": pa.nulls(images, pa.uint64()),
        "error": pa.array([None if ok else "empty file" for ok in fine], pa.string()),
        "offset": pa.nulls(images, pa.int64()),
    }
    return pa.table(columns, schema=cell_schema(5))


def measured(rows: pa.Table, **changes) -> Measured:
    summary = metrics.summary(metrics.tally(rows, CLASSES))
    plain = {"evaluation_set": VAL, "complete": True, "precision": "fp32", "decoder": "exact", "as_published": True}
    return Measured(summary=summary, **{**plain, **changes})


def right_for(points: float) -> int:
    """How many are right where the claim is missed by `points`."""
    return round((CLAIM.value + points) / 100 * IMAGES)


def judged(rows: pa.Table, card: zoo.Card = CARD, **changes) -> verdicts.Verdict:
    (verdict,) = verdicts.judge(card, measured(rows, **changes))
    return verdict


@pytest.mark.parametrize(
    ("points", "mode", "word"),
    [
        (0.0, {}, "reproduced"),
        (0.05, {}, "reproduced"),
        (-0.05, {}, "reproduced"),
        (-0.06, {}, "differs"),
        (0.06, {}, "differs"),
        (-0.06, {"precision": "bf16"}, "reproduced"),
        (-0.06, {"decoder": "fast"}, "reproduced"),
        (-0.24, {}, "differs"),
        (-0.24, {"precision": "bf16"}, "differs"),
    ],
)
def test_a_claim_is_held_against_what_exactness_allows(points, mode, word) -> None:
    found = judged(cell(right_for(points)), **mode)
    assert found.word == word
    assert found.points == pytest.approx(points, abs=0.002)
    assert found.images == right_for(points) - right_for(0)
    if word == "differs" and mode:
        assert found.reasons == ("measured in bf16",)


def test_errors_and_missing_images_and_shards_and_limits_are_no_complete_set() -> None:
    assert judged(cell(right_for(0), errors=3)).reasons == ("3 images are errors",)
    assert judged(cell(right_for(0), images=IMAGES - 1)).reasons == ("49999 images of 50000",)
    assert judged(cell(right_for(0)), complete=False).reasons == ("not every shard is evaluated",)
    for found in (judged(cell(right_for(0), errors=3)), judged(cell(right_for(0)), complete=False)):
        assert (found.word, found.measured, found.points) == ("incomplete", None, None)


def test_another_order_of_labels_is_named_as_such() -> None:
    found = judged(cell(IMAGES // CLASSES))
    assert found.word == "differs"
    assert "another order" in found.reasons[0]


def test_a_claim_of_one_decimal_stands_for_all_that_round_to_it() -> None:
    coarse = replace(CARD, claims=(replace(CLAIM, value=77.2),))
    assert judged(cell(round(77.11 / 100 * IMAGES)), coarse).word == "reproduced"
    assert judged(cell(round(77.09 / 100 * IMAGES)), coarse).word == "differs"


def test_what_is_known_of_a_card_explains_a_difference_and_hides_none() -> None:
    erratum = Erratum(field="Crop Pct", reason="the authors test with another crop")
    idle = Erratum(field="License", reason="none is named")
    card = replace(CARD, errata=(erratum, idle))
    assert judged(cell(right_for(-0.24)), card).reasons == ("card, Crop Pct: the authors test with another crop",)
    assert judged(cell(right_for(0)), card).reasons == ()


def test_what_the_claim_is_not_of_is_not_compared() -> None:
    rows = cell(right_for(0))
    assert verdicts.judge(CARD, measured(rows, evaluation_set=None)) == []
    assert verdicts.judge(CARD, measured(rows, evaluation_set=evaluation_sets.named("imagenet-v2"))) == []
    assert judged(rows, as_published=False).word == "not comparable"
    at_320 = replace(CARD, claims=(replace(CLAIM, size=320),))
    assert judged(rows, at_320).reasons == ("the claim is for 320 px, measured at 224 px",)


def test_a_model_without_weights_has_a_verdict_for_each_claim() -> None:
    found = verdicts.without_weights(zoo.card("sknet50"), "no SHA-256 is published")
    assert {entry.word for entry in found} == {"no weights"}
    assert len(found) == len(zoo.card("sknet50").claims)


def test_a_claim_is_as_coarse_as_it_was_printed() -> None:
    rows = cell(round(77.11 / 100 * IMAGES))
    assert judged(rows, replace(CARD, claims=(replace(CLAIM, value=77.2, decimals=1),))).word == "reproduced"
    assert judged(rows, replace(CARD, claims=(replace(CLAIM, value=77.2, decimals=3),))).word == "differs"


def identity(**changes) -> dict:
    """That of a cell as it comes back from JSON, which has lists where there were tuples."""
    column = Column(card=CARD, file=wanted.published(CARD))
    return json.loads(json.dumps(column.identity)) | changes


def test_a_plan_as_the_card_has_it_changes_no_verdict() -> None:
    for points in (0, -0.24):
        rows = cell(right_for(points))
        assert judged(rows, identity=identity()) == judged(rows)


def test_cells_of_another_size_or_of_other_classes_are_not_compared() -> None:
    rows, used = cell(right_for(0)), identity()
    found = judged(rows, identity=identity(preprocessing=used["preprocessing"] | {"size": 288}))
    assert (found.word, found.reasons) == ("not comparable", ("the claim is for 224 px, measured at 288 px",))
    found = judged(rows, identity=identity(subset=[1, 2, 3]))
    assert (found.word, found.reasons) == (
        "not comparable",
        ("the classes that count are not those of ImageNet-1k validation",),
    )


def test_other_preprocessing_and_settings_are_said_where_a_claim_is_missed() -> None:
    used = identity()
    changed = identity(
        preprocessing=used["preprocessing"] | {"interpolation": "bilinear"}, settings=used["settings"] | {"fold": True}
    )
    assert judged(cell(right_for(-0.24)), identity=changed).reasons == (
        "measured with interpolation bilinear, the card has bicubic",
        "measured with fold",
    )
