"""The order of a training's samples: every sample once an epoch, the same for any workers and from any step."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.sampling import order
from pipelines.training.sampling.order import Order, SampleSlot

ROWS = st.lists(st.integers(1, 40), min_size=1, max_size=9).map(tuple)
SHAPES = st.tuples(ROWS, st.sampled_from([8, 16, 48]), st.integers(1, 8), st.integers(0, 2**31))


def ordered(rows: tuple[int, ...], batch: int, most: int, seed: int, stage: str = "pretrain") -> Order:
    return Order(rows, batch, order.streams(len(rows), batch, most), seed, stage)


def seen(given: Order, first: int, last: int, rank: int = 0, workers: int = 1) -> list[SampleSlot]:
    slots = order.worker_slots(given, rank, workers)
    return [one for within in order.ranges(given, first, last) for one in order.filled_slots(given, slots, within)]


@settings(deadline=None)
@given(SHAPES, st.integers(1, 12))
def test_every_place_of_every_batch_is_filled_in_the_order_of_batches(shape, steps: int):
    found = seen(ordered(*shape), 0, steps)
    assert Counter((one.step, one.slot) for one in found) == Counter(
        (s, p) for s in range(steps) for p in range(shape[1])
    )
    assert all(a.step <= b.step for a, b in pairwise(found))


@settings(deadline=None)
@given(SHAPES)
def test_an_epoch_has_every_sample_once_but_for_a_rest_smaller_than_the_streams(shape):
    given = ordered(*shape)
    samples = given.epoch * given.streams
    found = [one for one in seen(given, 0, -(-samples // given.batch)) if one.epoch == 0]
    assert set(Counter((one.shard, one.index) for one in found).values()) == {1}
    assert all(one.index < given.rows[one.shard] for one in found)
    assert sum(given.rows) - len(found) < given.streams


@settings(deadline=None)
@given(SHAPES, st.integers(1, 10), st.integers(0, 9))
def test_any_step_can_be_the_first(shape, steps: int, first: int):
    given = ordered(*shape)
    whole = [one for one in seen(given, 0, steps) if one.step >= first]
    assert seen(given, min(first, steps), steps) == whole


@settings(deadline=None)
@given(SHAPES, st.sampled_from([1, 2, 4, 8]))
def test_workers_together_have_the_batches_of_one(shape, workers: int):
    given = ordered(*shape)
    parts = [one for rank in range(workers) for one in seen(given, 2, 7, rank, workers)]
    assert sorted(parts, key=lambda one: (one.step, one.slot)) == sorted(
        seen(given, 2, 7), key=lambda one: (one.step, one.slot)
    )


def test_a_worker_reads_its_own_streams_and_no_others():
    given = ordered((100,) * 64, 64, 8, 0)
    samples = [{(one.shard, one.index) for one in seen(given, 0, 100, rank, 8)} for rank in range(8)]
    assert sum(map(len, samples)) == len(set.union(*samples)) == 6400


def test_another_seed_stage_or_epoch_has_another_order():
    given = ordered((50, 50), 20, 2, 1)
    first = [(one.shard, one.index) for one in seen(given, 0, 5)]
    others = [ordered((50, 50), 20, 2, 2), ordered((50, 50), 20, 2, 1, "finetune")]
    assert all([(one.shard, one.index) for one in seen(other, 0, 5)] != first for other in others)
    assert [(one.shard, one.index) for one in seen(given, 5, 10)] != first


def test_a_window_is_shuffled_over_its_shards_and_no_further():
    given = Order((1000,) * 40, 512, 8, 3, "pretrain")
    shards = [
        {one.shard for one in order.filled_slots(given, order.worker_slots(given, 0, 8), within)}
        for within in order.ranges(given, 0, 80)
    ]
    assert given.window == 2048
    assert all(len(some) <= 4 for some in shards)


@pytest.mark.parametrize(
    ("shards", "batch", "most", "count"), [(1, 64, 8, 1), (100, 64, 8, 8), (5, 64, 8, 4), (100, 36, 8, 4), (9, 7, 8, 1)]
)
def test_streams_are_as_many_as_shards_and_batch_allow(shards: int, batch: int, most: int, count: int):
    assert order.streams(shards, batch, most) == count
