"""Covers pipelines.walk.estimate: times and prices of plans, compared with arithmetic by hand."""

from dataclasses import replace

import pytest

import zoo
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.records import Settings
from pipelines.walk import estimate
from tests.support.fake_stores import column, dataset

HOUR = 3600


def plan_of(*models: str, precision: str = "fp32", shards: int = 2, rows: int = 1000) -> Plan:
    data = dataset(shards=shards, rows=rows)
    columns = tuple(column(model, Settings(precision=precision)) for model in models)
    return Plan(data, columns, (tuple(range(shards)),) * len(models))


def test_models_add_up_and_decoding_is_paid_once() -> None:
    one, other = (estimate.of_plan(plan_of(model)) for model in ("resnest50d", "sknet50"))
    both = estimate.of_plan(plan_of("resnest50d", "sknet50"))
    assert both.gpu_seconds == pytest.approx(one.gpu_seconds + other.gpu_seconds)
    assert both.decode_seconds < one.decode_seconds + other.decode_seconds
    assert both.images == one.images == 2000


def test_a_gpu_takes_multiply_accumulates_divided_by_its_rate() -> None:
    work = estimate.of_plan(plan_of("resnest50d", precision="bf16"))
    assert work.gpu_seconds == pytest.approx(2000 * 5_371_160_576 / 2.1e13)


def test_dollars_are_hours_times_the_price_of_a_gpu_or_cpu() -> None:
    """Dollars are hours times the price of a GPU, or of a sixteenth of a node for a CPU."""
    work = estimate.Estimate(images=0, gpu_seconds=HOUR, cpu_seconds=HOUR, decode_seconds=16 * HOUR)
    assert work.usd("cuda") == pytest.approx(0.40 + 0.30)
    assert work.usd("cpu") == pytest.approx(0.30 / 16 + 0.30)


def test_what_is_committed_costs_nothing() -> None:
    done = replace(plan_of("resnest50d"), missing=((),))
    assert estimate.of_plan(done) == estimate.Estimate(0, 0.0, 0.0, 0.0)


def test_a_precision_that_cpus_do_not_have_has_no_price_there() -> None:
    assert estimate.of_plan(plan_of("resnest50d", precision="tf32")).cpu_seconds is None


def test_a_shard_without_manifest_is_reckoned_by_its_size() -> None:
    shard = replace(dataset(shards=1, rows=10).shards[0], rows=None, size=1_100_000)
    assert estimate.images(shard) == 10


def test_every_model_of_the_zoo_and_every_precision_has_an_estimate() -> None:
    for card in zoo.select():
        for precision in ("fp32", "tf32", "bf16", "fp16"):
            one = Column(card=card, file=column("resnest50d").file, settings=Settings(precision=precision))
            assert estimate.of_walk([one], dataset(shards=1, rows=10).shards).gpu_seconds > 0
