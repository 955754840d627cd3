"""Trainings whose driver, node or store fails: weights and curve are those of a calm run, bit for bit."""

import random
import signal
import time
import uuid
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.models import members
from pipelines.training import checkpoint
from tests.support import faulty_runs
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.faulty_runs import Driver
from tests.support.small_trainings import CLASSES, put

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 240
OPTIONS = [
    *["--model", "cifar_resnet8", "--size", "12", "--classes", str(CLASSES), "--name", "pupil"],
    *["--pre.batch", "16", "--pre.micro-batch", "8", "--pre.epochs", str(STEPS * 16 / 48), "--pre.mixup", "0.2"],
    *["--validate-every", "100000", "--log-every", "160", "--tracking-uri", "none"],
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return put(str(tmp_path_factory.mktemp("data"))).source


def start(data: str, store: str, *options: str, address: str = "local") -> Driver:
    own = ["--pretrain", data, "--val", data, "--store", store, *OPTIONS, *options]
    return faulty_runs.begin("train_student", *own, env={"RAY_ADDRESS": address})


def saved(store: str) -> list[checkpoint.Saved]:
    homes = {entry.uri.partition("/checkpoints/")[0] for entry in storage.list_objects(f"{store}/training")}
    return [one for home in homes for one in checkpoint.listed(home)]


def last(store: str) -> tuple[str, list]:
    """The digest of the published weights, and the curve."""
    newest, (card,) = saved(store)[-1], members.cards(store)
    assert newest.step == STEPS
    assert card.weights and card.weights.sha256
    return card.weights.sha256, list(checkpoint.load(newest).curve)


@pytest.fixture(scope="module")
def calm(data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list]:
    store = str(tmp_path_factory.mktemp("calm"))
    code, said = start(data, store).wait(300)
    assert code == 0, said
    return last(store)


@pytest.mark.thorough
def test_sigterm_leaves_a_checkpoint_of_that_moment_and_the_same_command_goes_on(
    data: str, calm: tuple[str, list], tmp_path: Path
) -> None:
    store = str(tmp_path)
    driver = start(data, store, "--save-seconds", "3")
    faulty_runs.wait_until(lambda: saved(store), driver)
    time.sleep(1)
    told, before = time.monotonic(), saved(store)[-1]
    driver.process.send_signal(signal.SIGTERM)
    code, said = driver.wait(60)
    assert code == 143, said
    assert "stopped after a checkpoint" in said
    assert time.monotonic() - told < 16
    assert before.step < saved(store)[-1].step < STEPS
    code, said = start(data, store).wait(300)
    assert code == 0, said
    assert "continues from step" in said
    assert last(store) == calm


@pytest.mark.thorough
def test_killed_again_and_again_it_ends_as_if_undisturbed(data: str, calm: tuple[str, list], tmp_path: Path) -> None:
    """A training that is killed again and again, also while it writes checkpoints, ends as if undisturbed."""
    store, chance = str(tmp_path), random.Random(4)
    for _ in range(3):
        before = len(saved(store)) and saved(store)[-1].step
        driver = start(data, store, "--save-seconds", "0")  # a checkpoint every step: it is writing nearly always
        faulty_runs.wait_until(lambda least=before: saved(store) and saved(store)[-1].step > least, driver)
        time.sleep(chance.uniform(0, 0.7))
        driver.kill()
        assert checkpoint.newest(saved(store)[-1].uri.partition("/checkpoints/")[0]).damaged == ()
    code, said = start(data, store).wait(300)
    assert code == 0, said
    assert last(store) == calm


def test_a_node_that_is_lost_costs_the_steps_since_the_last_checkpoint(
    data: str, calm: tuple[str, list], tmp_path: Path
) -> None:
    cluster, store = faulty_runs.new_cluster(0), str(tmp_path)
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        driver = start(data, store, "--save-seconds", "1", address=str(cluster.address))
        faulty_runs.wait_until(lambda: saved(store), driver)
        victims = [node for node in nodes if faulty_runs.workers(faulty_runs.raylet(node), "RayTrainWorker")]
        assert len(victims) == 1
        cluster.remove_node(victims[0], allow_graceful=False)
        code, said = driver.wait(400)
        if code != 0:  # of several nodes on one machine a driver may be at any; it is lost with its own
            code, said = start(data, store, address=str(cluster.address)).wait(300)
        assert code == 0, said
        assert "continues from step" in said
        assert last(store) == calm
    finally:
        cluster.shutdown()


def test_a_fault_in_the_middle_of_a_checkpoint_loses_nothing(
    data: str, calm: tuple[str, list], network: FaultProxy, s3_server: str
) -> None:
    """A store that fails in the middle of a checkpoint loses nothing, nor does a driver that is killed there."""
    store = f"{s3_server}/{uuid.uuid4().hex}"
    for kind in ("before", "after"):
        driver = start(data, store, "--save-seconds", "1")
        network.faults[:] = [Fault(kind, match="PUT .*/checkpoints/0-", times=1, call=driver.process.kill)]
        code, said = driver.wait()
        assert code == -9, said
    network.faults[:] = [
        *[Fault("status", probability=0.2, argument=503), Fault("reset", probability=0.1)],
        *[Fault("lost_ack", match="^(PUT|POST)", probability=0.3), Fault("truncate", match="^GET", probability=0.1)],
    ]
    code, said = start(data, store, "--save-seconds", "1").wait(400)
    network.faults.clear()
    assert code == 0, said
    assert last(store) == calm
