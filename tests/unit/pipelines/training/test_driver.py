"""Driver and workers on a local Ray: fed as without Ray, resumed as if never stopped, alike for one worker and two."""

import copy
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from pipelines import storage
from pipelines.cluster.shares import resources, share
from pipelines.data.dataset import find_dataset
from pipelines.evaluation import metrics
from pipelines.records import Dataset
from pipelines.training import checkpoint, driver, ownership, validation
from pipelines.training.checkpoint import CheckpointContent
from pipelines.training.progress import Position, TrainingProgress
from pipelines.training.sampling import loader
from pipelines.training.specification import Pace, Training
from tests.support.shard_files import tar_of
from tests.support.small_trainings import CARD, CLASSES, batches, put, stage, worker_share
from tests.support.small_trainings import training as of_stages

pytestmark = [pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return put(str(tmp_path_factory.mktemp("data")))


def train(
    given: Training, watch: Callable[[TrainingProgress], object] = lambda _: None
) -> tuple[list[TrainingProgress], list[str]]:
    reports, notes = list[TrainingProgress](), list[str]()

    def collect(progress: TrainingProgress) -> None:
        reports.append(progress)
        watch(progress)

    driver.train(given, collect, notes.append)
    return reports, notes


def content(home: Path | str) -> CheckpointContent:
    found = checkpoint.newest(str(home))
    assert found.content
    return found.content


def weights(home: Path | str) -> dict[str, torch.Tensor]:
    return content(home).learner.network


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(
    dataset: Dataset, local_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Training, list[TrainingProgress]]:
    """Two stages that were never interrupted."""
    given = two_stages(tmp_path_factory.mktemp("whole"), dataset)
    return given, train(given)[0]


def two_stages(home: Path, dataset: Dataset, **changes: Any) -> Training:
    second = replace(stage(dataset, epochs=1, lr_per_256=0.05), name="finetune")
    return of_stages(home, [stage(dataset, mixup=0.2), second], dataset, **changes)


def test_ray_data_feeds_what_the_steps_alone_do(dataset: Dataset) -> None:
    given = worker_share(dataset, (12,) * 4)
    shares = share(*resources(), "cpu")
    fed = list(loader.batches(given, 3, 11, shares, 1))
    for found, expected in zip(fed, batches(given, 3, 11), strict=True):
        assert (found.step, found.keys, found.errors) == (expected.step, expected.keys, expected.errors)
        assert np.array_equal(found.pixels, expected.pixels)
        assert np.array_equal(found.labels, expected.labels)


def test_a_training_learns_tells_of_it_and_ends_with_a_checkpoint_of_its_last_step(
    whole: tuple[Training, list[TrainingProgress]],
) -> None:
    given, reports = whole
    points = [one.point for one in reports]
    assert [point.stage for point in points] == sorted(point.stage for point in points)
    assert [point.step for point in points if point.metrics] == [24, 3]
    last = points[-1]
    assert last.metrics
    assert last.metrics["n"] == 48
    assert last.metrics["top1"] > 60  # guessing has 25
    assert last.loss < points[0].loss
    assert list(content(given.home).curve) == points
    saved = checkpoint.newest(given.home).saved
    assert saved
    assert (saved.stage, saved.step) == (1, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop_at", [*(pytest.param(at, marks=pytest.mark.thorough) for at in ((0, 5), (0, 24))), (1, 1)], ids=str
)
def test_stopped_anywhere_it_goes_on_bit_for_bit(
    whole: tuple[Training, list[TrainingProgress]], dataset: Dataset, tmp_path: Path, stop_at: tuple[int, int]
) -> None:
    given = two_stages(tmp_path, dataset)

    def stop(one: TrainingProgress) -> None:
        if (one.point.stage, one.point.step) == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(given, stop)
    stopped = checkpoint.newest(given.home).saved
    assert stopped
    assert (stopped.stage, stopped.step) >= stop_at
    _, notes = train(given)
    assert any(f"continues from step {stopped.step}" in line for line in notes)
    assert content(given.home).curve == content(whole[0].home).curve
    assert equal(weights(given.home), weights(whole[0].home))


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(
    whole: tuple[Training, list[TrainingProgress]], dataset: Dataset, tmp_path: Path
) -> None:
    given = two_stages(tmp_path, dataset)
    for saved in checkpoint.listed(whole[0].home)[-2:]:
        storage.put(saved.uri.replace(whole[0].home, given.home), storage.read(saved.uri))
    newest = Path(checkpoint.listed(given.home)[-1].uri)
    newest.write_bytes(newest.read_bytes()[:-100])
    _, notes = train(given)
    assert any(line.startswith("skipped: ") and newest.name in line for line in notes)
    assert equal(weights(given.home), weights(whole[0].home))


@pytest.mark.slow
def test_two_workers_have_the_losses_of_one_and_resume_within_float_tolerance(dataset: Dataset, tmp_path: Path) -> None:
    def of(workers: int, folder: str) -> Training:
        first = stage(dataset, epochs=7, lr_per_256=0.2)
        return of_stages(tmp_path / folder, [first], dataset, workers=workers)

    losses = {}
    for workers in (1, 2):
        train(of(workers, f"{workers}"))
        losses[workers] = [point.loss for point in content(tmp_path / f"{workers}").curve]
    assert len(losses[1]) >= 20
    np.testing.assert_allclose(losses[2][:20], losses[1][:20], rtol=2e-3)
    np.testing.assert_allclose(losses[2][:3], losses[1][:3], rtol=1e-5)

    def stop(one: TrainingProgress) -> None:
        if one.point.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(of(2, "resumed"), stop)
    train(of(2, "resumed"))
    for name, value in weights(tmp_path / "resumed").items():
        torch.testing.assert_close(value, weights(tmp_path / "2")[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_the_keys_and_is_not_tried_again(dataset: Dataset, tmp_path: Path) -> None:
    given = of_stages(tmp_path, [stage(dataset, lr_per_256=1e20)], dataset)
    started = time.monotonic()
    with pytest.raises(driver.GivenUpError, match=r"the loss of step \d+ is not finite; its images: \d-\d+, "):
        train(given)
    assert time.monotonic() - started < 100


@pytest.mark.slow
def test_data_that_is_mostly_bad_stops_with_examples(tmp_path: Path) -> None:
    members = [member for i in range(20) for member in ((f"{i}.png", b"nonsense"), (f"{i}.cls", b"1"))]
    storage.put(f"{tmp_path}/data/0.tar", tar_of(members))
    bad = find_dataset([f"{tmp_path}/data"])
    given = of_stages(tmp_path / "home", [stage(bad, rows=20)], bad)
    with pytest.raises(driver.GivenUpError, match=r"1\d of the first 16 images are bad: \d+: not an image"):
        train(given)
    assert not checkpoint.listed(given.home)


@pytest.mark.slow
def test_a_shard_that_is_gone_stops_by_name(tmp_path: Path) -> None:
    there = put(str(tmp_path / "data"), shards_=2)
    given = of_stages(tmp_path / "home", [stage(there)], there)
    storage.remove([there.shards[1].uri])
    with pytest.raises(driver.GivenUpError, match=r"images are bad: 00001#.*00001.tar: .*FileNotFoundError"):
        train(given)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_the_steps_since_the_last_checkpoint(
    whole: tuple[Training, list[TrainingProgress]], dataset: Dataset, tmp_path: Path
) -> None:
    given = two_stages(tmp_path, dataset, pace=Pace(log_every=16, validate_every=10_000, save_seconds=0.0))
    killed = threading.Event()

    def kill(one: TrainingProgress) -> None:
        if one.point.step >= 4 and not killed.is_set():
            killed.set()
            for process in psutil.process_iter(["cmdline"]):
                if "RayTrainWorker" in " ".join(process.info["cmdline"] or []):
                    os.kill(process.pid, signal.SIGKILL)

    _, notes = train(given, kill)
    assert killed.is_set()
    assert any("continues from step" in line for line in notes)
    assert content(given.home).curve == content(whole[0].home).curve
    assert equal(weights(given.home), weights(whole[0].home))


@pytest.mark.slow
def test_a_training_that_another_job_takes_over_stops_and_writes_no_more(dataset: Dataset, tmp_path: Path) -> None:
    given = two_stages(tmp_path, dataset, pace=Pace(log_every=16, validate_every=10_000, save_seconds=0.0))
    later = list[checkpoint.Saved]()

    def take_over(one: TrainingProgress) -> None:
        if one.point.step >= 4 and not later:
            ownership.take(given.home)
            time.sleep(1)  # a checkpoint that is being written still appears
            later.extend(checkpoint.listed(given.home))

    with pytest.raises(driver.GivenUpError, match="another job has taken over this training"):
        train(given, take_over)
    assert checkpoint.listed(given.home) == later
    assert later[-1].position < Position(1, 3)


def test_validation_has_the_counts_of_metrics_and_those_of_parts_add_up(dataset: Dataset) -> None:
    torch.manual_seed(2)
    network = CARD.network.build(CLASSES)
    shares = share(*resources(), "cpu")

    def of(rank: int, workers: int) -> metrics.Tally | None:
        return validation.tally(copy.deepcopy(network), CARD, dataset, shares, rank, workers)

    whole, parts = of(0, 1), [of(rank, 3) for rank in range(3)]
    assert whole
    merged = parts[0]
    for part in parts[1:]:
        assert merged and part
        merged = metrics.merge(merged, part)
    assert merged
    assert metrics.summary(merged) == metrics.summary(whole)
    assert whole.n == 48
    assert of(7, 8) is None
