"""Covers pipelines.walk.scorer: against plain PyTorch, and independence of neighbours, padding and label."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

import zoo
from pipelines.pixels.decoded import decoded_schema
from pipelines.records import SCORES, Settings
from pipelines.walk.passes import PassConfig
from pipelines.walk.scorer import Scorer
from tests.support.scorers import CARD, COLUMN, CONFIG, NAME, PIXELS, chunk, score, with_column, with_networks


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(CONFIG)


def reference(pixels: np.ndarray) -> np.ndarray:
    """Probabilities (B, N) by the card's numbers, in plain PyTorch."""
    return torch.from_numpy(reference_logits(pixels)).softmax(1).numpy()


def reference_logits(pixels: np.ndarray) -> np.ndarray:
    mean, std = np.array(CARD.preprocessing.mean), np.array(CARD.preprocessing.std)
    x = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        return zoo.create(NAME, weights="card")(x).numpy()


def test_scores_are_those_of_plain_pytorch(scorer) -> None:
    expected = reference(PIXELS)
    for row, probs in zip(score(scorer, PIXELS, labels=[7, 8, 9, 10]), expected, strict=True):
        assert row["classes"] == np.argsort(-probs, kind="stable")[:10].tolist()
        assert row["probs"] == pytest.approx(np.sort(probs)[::-1][:10], abs=1e-6)
        assert row["label_prob"] == pytest.approx(probs[row["label"]], abs=1e-6)
        assert row["sq_prob"] == pytest.approx((probs**2).sum(), abs=1e-6)


def test_a_probability_and_logsumexp_give_the_logit_and_rows_keep_their_images_digest(scorer) -> None:
    for start, (row, logits) in enumerate(zip(score(scorer, PIXELS), reference_logits(PIXELS), strict=True)):
        assert np.log(row["probs"]) + row["logsumexp"] == pytest.approx(np.sort(logits)[::-1][:10], abs=1e-4)
        assert row["digest"] == start


def test_rows_carry_where_they_belong(scorer) -> None:
    rows = score(scorer, PIXELS, start=8, last=True)
    assert [row["index"] for row in rows] == [8, 9, 10, 11]
    assert [row["last"] for row in rows] == [False, False, False, True]
    assert {(row["slot"], row["shard"]) for row in rows} == {(0, 5)}


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_ragged_batch_scores_bit_for_bit_as_in_a_full_one(scorer, rows) -> None:
    whole = score(scorer, PIXELS)
    for got, expected in zip(score(scorer, PIXELS[:rows]), whole, strict=False):
        assert (got["probs"], got["classes"], got["sq_prob"]) == (
            expected["probs"],
            expected["classes"],
            expected["sq_prob"],
        )


def test_an_error_row_has_no_scores_and_leaves_its_neighbours_alone(scorer) -> None:
    blank = PIXELS.copy()
    blank[1] = 0
    rows = score(scorer, blank, errors=[None, "empty file", None, None])
    assert (rows[1]["classes"], rows[1]["probs"], rows[1]["label_prob"], rows[1]["sq_prob"]) == (None,) * 4
    assert (rows[1]["label"], rows[1]["offset"]) == (1, 512)
    assert [rows[i]["offset"] for i in (0, 2, 3)] == [None] * 3
    whole = score(scorer, PIXELS)
    assert [rows[i]["probs"] for i in (0, 2, 3)] == [whole[i]["probs"] for i in (0, 2, 3)]


def test_a_label_that_is_missing_or_out_of_range_has_no_probability(scorer) -> None:
    rows = score(scorer, PIXELS, labels=[None, 1000, -1, 999])
    assert [row["label"] for row in rows] == [None, 1000, -1, 999]
    assert [row["label_prob"] is None for row in rows] == [True, True, True, False]


def test_equal_probabilities_are_ranked_by_class_index(monkeypatch) -> None:
    scorer = with_networks(monkeypatch, lambda x: torch.zeros(len(x), 1000))
    assert all(row["classes"] == list(range(10)) for row in score(scorer, PIXELS))


@pytest.mark.parametrize(("transient", "kind"), [(False, "failed_shard"), (True, "absent_shard")])
def test_a_failed_shard_passes_through_with_its_reason_told_from_one_that_is_away(scorer, transient, kind) -> None:
    row = {"shard": 3, "start": 0, "last": False, "failure": "cut", "transient": transient}
    failed = pa.Table.from_pylist(
        [row | dict.fromkeys(("keys", "labels", "offsets", "digests", "errors_0"), ()) | {"pixels_0": b""}],
        decoded_schema(1),
    )
    (scores,) = pa.concat_tables(scorer(failed)).to_pylist()
    assert (scores["shard"], scores["kind"], scores["error"], scores["offset"]) == (3, kind, "cut", None)


def test_errors_of_a_parquet_shard_have_no_place_in_a_tar(scorer) -> None:
    table = chunk(PIXELS, errors=[None, "empty file", None, None])
    position = table.schema.get_field_index("offsets")
    without = table.set_column(position, table.field(position), pa.array([[None] * 4], pa.list_(pa.int64())))
    rows = pa.concat_tables(scorer(without)).to_pylist()
    assert [(row["error"], row["offset"]) for row in rows] == [(None, None), ("empty file", None)] + [(None, None)] * 2


def test_a_scorer_gives_the_declared_columns(scorer) -> None:
    assert next(scorer(chunk(PIXELS))).schema.equals(SCORES)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("fp16", 0.01)])
def test_lower_precision_is_near_fp32(scorer, precision, tolerance) -> None:
    lower = score(Scorer(with_column(settings=replace(COLUMN.settings, precision=precision))), PIXELS)
    for got, expected in zip(lower, score(scorer, PIXELS), strict=True):
        assert got["probs"][0] == pytest.approx(expected["probs"][0], abs=tolerance)
        assert got["probs"] != expected["probs"]


def test_rows_say_how_long_the_model_took_but_not_while_it_warms_up() -> None:
    scorer = Scorer(CONFIG)
    assert [row["seconds"] for row in score(scorer, PIXELS)] == [None] * 4
    seconds = {row["seconds"] for row in score(scorer, PIXELS[:2])}
    assert len(seconds) == 1
    assert 0 < seconds.pop() < 10


def test_a_model_of_a_smaller_batch_takes_a_chunk_in_parts_with_the_scores_it_has_alone(scorer) -> None:
    mixed = replace(CONFIG, columns=(COLUMN, replace(COLUMN, settings=Settings(batch_size=2))))
    rows = score(Scorer(mixed), PIXELS)
    assert [(row["slot"], row["index"]) for row in rows] == [(slot, index) for slot in (0, 1) for index in range(4)]
    alone = Scorer(replace(CONFIG, columns=(mixed.columns[1],), chunk=2))
    parts = [score(alone, PIXELS[start : start + 2], start=start) for start in (0, 2)]
    assert [row["probs"] for row in rows[4:]] == [row["probs"] for part in parts for row in part]
    assert [row["probs"] for row in rows[:4]] == [row["probs"] for row in score(scorer, PIXELS)]


def test_classes_outside_of_the_subset_have_no_part_in_the_scores(scorer) -> None:
    subset = (3, 7, 8, 500, 998)
    probs = reference(PIXELS)[:, subset]
    expected = probs / probs.sum(1, keepdims=True)
    for row, some in zip(
        score(Scorer(with_column(subset=subset)), PIXELS, labels=[7, 4, 3, 998]), expected, strict=True
    ):
        assert row["classes"] == [subset[i] for i in np.argsort(-some, kind="stable")]
        assert row["probs"] == pytest.approx(np.sort(some)[::-1], abs=1e-5)
        assert row["label_prob"] == (
            0 if row["label"] == 4 else pytest.approx(some[subset.index(row["label"])], abs=1e-5)
        )
        assert row["sq_prob"] == pytest.approx((some**2).sum(), abs=1e-5)


def test_an_ensemble_averages_the_probabilities_of_its_members_whatever_their_settings(scorer) -> None:
    member = replace(COLUMN, settings=Settings(batch_size=2, channels_last=True))
    alone = [score(Scorer(replace(CONFIG, columns=(column,))), PIXELS) for column in (COLUMN, member)]
    both = Scorer(replace(CONFIG, columns=(replace(COLUMN, ensemble=(member,), max_classes_kept=1000), COLUMN)))
    rows = score(both, PIXELS)
    mean = (reference(PIXELS) + reference(PIXELS)) / 2
    for row, expected in zip(rows[:4], mean, strict=True):
        assert row["probs"] == pytest.approx(np.sort(expected)[::-1], abs=1e-6)
        assert row["logsumexp"] == 0
        assert len(row["classes"]) == 1000
    assert [row["label_prob"] for row in rows[:4]] == pytest.approx(
        [(a["label_prob"] + b["label_prob"]) / 2 for a, b in zip(*alone, strict=True)], abs=1e-9
    )
    assert [row["probs"] for row in rows[4:]] == [row["probs"] for row in alone[0]]


def test_a_row_of_an_ensemble_needs_the_pixels_of_every_member() -> None:
    config = PassConfig(
        columns=(replace(COLUMN, ensemble=(replace(COLUMN, decoder="fast"),)),),
        views=tuple(sorted({COLUMN.view, replace(COLUMN, decoder="fast").view})),
        chunk=4,
        device="cpu",
        memory=None,
    )
    (row,) = chunk(PIXELS).to_pylist()
    row |= {"pixels_1": PIXELS.tobytes(), "errors_0": [None, "a", None, "a"], "errors_1": [None, None, "b", "b"]}
    table = pa.Table.from_pylist([row], schema=decoded_schema(2))
    assert [r["error"] for r in pa.concat_tables(Scorer(config)(table)).to_pylist()] == [None, "a", "b", "a"]
