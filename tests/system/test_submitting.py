"""`ray job submit` to a real cluster that asks for a token: jobs run from a folder alone, stop, and go on."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from pipelines import storage
from tests.support import faulty_runs, ray_heads
from tests.support.ray_heads import Head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHARDS = 60
WHERE = "import ray, pipelines; print('code:', ray.get(ray.remote(lambda: pipelines.__file__).remote()))"
MEASURING = """
import ray, time
from pipelines.walk.gauges import Gauges
ray.init()
gauges = Gauges("val")
while True:
    gauges.set(cells_done=7)
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    head = ray_heads.start("--num-cpus=2", RAY_JOB_STOP_WAIT_TIME_S="30", RAY_metrics_report_interval_ms="1000")
    yield head
    head.stop()


@pytest.fixture(scope="module")
def data(tmp_path_factory, jpegs: list[bytes]) -> str:
    return faulty_runs.put_shards(str(tmp_path_factory.mktemp("data") / "val"), jpegs, SHARDS)


def submit(head: Head, name: str, *entrypoint: str, **env: str) -> faulty_runs.Driver:
    return head.ray("job", "submit", "--submission-id", name, "--working-dir", ".", "--", *entrypoint, **env)


def evaluate(data: str, store: str) -> list[str]:
    options = ["--models", faulty_runs.MODEL, "--data", data, "--store", store, "--batch-size", str(faulty_runs.IMAGES)]
    return ["python", "-m", "jobs.evaluate", *options, "--tracking-uri", "none"]


def pseudo_label(data: str, store: str) -> list[str]:
    options = ["--models", faulty_runs.MODEL, "--data", data, "--store", store, "--batch-size", str(faulty_runs.IMAGES)]
    return ["python", "-m", "jobs.pseudo_label", *options]


def stop(head: Head, name: str) -> None:
    code, said = head.ray("job", "stop", name).wait()
    assert code == 0, said
    assert head.get(f"/api/jobs/{name}")["status"] == "STOPPED"


def logs(head: Head, name: str) -> str:
    known = name in {job["submission_id"] for job in head.get("/api/jobs/")}
    return head.get(f"/api/jobs/{name}/logs")["logs"] if known else ""


@pytest.mark.parametrize("job", [evaluate, pytest.param(pseudo_label, marks=pytest.mark.thorough)])
def test_a_job_that_was_stopped_goes_on_when_it_is_submitted_again(head: Head, data: str, job, tmp_path: Path) -> None:
    store = str(tmp_path / "out")
    first = submit(head, f"{job.__name__}-1", *job(data, store))
    faulty_runs.wait_until(lambda: len(faulty_runs.committed(store)) > 3, first)
    stop(head, f"{job.__name__}-1")
    _, said = first.wait()
    assert "was stopped" in said
    before = faulty_runs.committed(store)
    assert 3 < len(before) < SHARDS
    code, said = submit(head, f"{job.__name__}-2", *job(data, store)).wait()
    assert code == 0, said
    assert f"{len(before)} cells committed, {SHARDS - len(before)} to do" in said
    assert re.search(r"^cells \d+/\d+ · ", said, re.M), "progress is lines where there is no terminal"
    assert faulty_runs.keys(store) == sorted(str(i) for i in range(SHARDS * faulty_runs.IMAGES))
    assert before.items() <= faulty_runs.committed(store).items()
    told = head.get(f"/api/jobs/{job.__name__}-2")["metadata"]
    assert storage.read(told["menagerie_run"])
    assert re.fullmatch("[0-9a-f]{8}", told["menagerie_identities"])


def test_a_training_that_was_stopped_goes_on_from_a_checkpoint_of_that_moment(
    head: Head, data: str, tmp_path: Path
) -> None:
    store = str(tmp_path / "out")
    options = ["--model", "cifar_resnet8", "--pretrain", data, "--val", data, "--store", store, "--classes", "300"]
    recipe = ["--pre.epochs", "4", "--pre.batch", "20", "--log-every", "20", "--name", "small"]
    command = ["python", "-m", "jobs.train_student", *options, *recipe, "--tracking-uri", "none"]
    first = submit(head, "train-1", *command)
    faulty_runs.wait_until(lambda: "loss" in logs(head, "train-1"), first)
    stop(head, "train-1")
    _, said = first.wait()
    assert "stopped after a checkpoint" in said
    code, said = submit(head, "train-2", *command).wait()
    assert code == 0, said
    assert "continues from step" in said
    assert "small-" in said


def test_the_code_is_that_of_the_submitted_folder_which_is_small(head: Head) -> None:
    code, said = submit(head, "where", "python", "-c", WHERE).wait()
    assert code == 0, said
    (place,) = re.findall("code: (.+)", said)
    assert "working_dir_files" in place
    folder = Path(place).parents[1]
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 5_000_000
    assert not {"tests", ".git", ".venv", "docs"} & {entry.name for entry in folder.iterdir()}


def test_a_large_folder_that_was_submitted_is_said_with_what_is_large(head: Head, tmp_path: Path) -> None:
    with (tmp_path / "forgotten.bin").open("wb") as file:
        file.truncate(60_000_000)
    connects = f"import sys; sys.path.insert(0, {str(faulty_runs.ROOT)!r}); from jobs.steps import cluster"
    entrypoint = ("python", "-c", f"{connects}; cluster.connect()")
    code, said = head.ray("job", "submit", "--working-dir", str(tmp_path), "--", *entrypoint).wait()
    assert code == 0, said
    assert "the working folder of this job has 60 MB (forgotten.bin 60 MB)" in said


def metrics(head: Head) -> str:
    """What the agents whose addresses Ray writes down serve now."""
    pages, targets = "", []
    with suppress(OSError, ValueError):  # not written yet, or not wholly
        targets = json.loads((head.home / "ray" / "prom_metrics_service_discovery.json").read_text())
    for at in (at for served in targets for at in served["targets"]):
        with suppress(OSError):  # one that does not answer hides no other
            pages += requests.get(f"http://{at}/metrics", timeout=30).text
    return pages


def test_what_a_walk_measures_is_there_for_prometheus(head: Head) -> None:
    job = submit(head, "gauges", "python", "-c", MEASURING)
    faulty_runs.wait_until(lambda: "ray_menagerie_cells_done{" in metrics(head), job)
    stop(head, "gauges")
    job.wait()


def test_without_the_token_or_with_another_nothing_is_done(head: Head, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("0" * 64)
    for env in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN_PATH": str(other)}):
        code, said = submit(head, "stranger", "python", "-c", "1", HOME=str(tmp_path), **env).wait()
        assert code != 0
        assert re.search("40[13]|[Tt]oken", said), said
    assert requests.get(f"{head.dashboard}/api/jobs/", timeout=30).status_code == 401
    wrong = {"Authorization": "Bearer " + "0" * 64}
    assert requests.get(f"{head.dashboard}/api/jobs/", headers=wrong, timeout=30).status_code == 403
    assert "stranger" not in {job["submission_id"] for job in head.get("/api/jobs/")}
