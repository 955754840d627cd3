"""Real runs to put faults on: shards, drivers in processes of their own, Ray nodes that can be killed, and the checker.

What the tests of all faults share; it makes no fault itself.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from ray._common.utils import reset_ray_address
from ray._private.node import Node
from ray.cluster_utils import Cluster

from pipelines import storage
from pipelines.cells.cell import read_cell
from tests.support import shard_files
from tests.support.paths import ROOT
from tests.support.shard_files import labelled

SHARDS, IMAGES = 12, 5
MODEL = "efficientnet_lite0"


def put_shards(folder: str, jpegs: Sequence[bytes], shards: int = SHARDS) -> str:
    """Shards of `IMAGES` labelled images each, with different keys; returns `folder`."""
    samples = [labelled(str(i), jpegs[i % len(jpegs)], i) for i in range(IMAGES * shards)]
    shard_files.put_shards(folder, (samples[i : i + IMAGES] for i in range(0, len(samples), IMAGES)))
    return folder


@dataclass(frozen=True)
class Driver:
    """A job in a process group of its own."""

    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float = 150) -> tuple[int, str]:
        """Its exit code and what it said."""
        said = self.process.communicate(timeout=seconds)[0]
        return self.process.returncode, said

    def kill(self) -> None:
        """SIGKILL, as an operating system out of memory or patience does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def start(data: str, store: str, *flags: str, env: dict[str, str] | None = None, models: str = MODEL) -> Driver:
    """`python -m jobs.evaluate` on `data` into `store`."""
    tracking = () if "--tracking-uri" in flags else ("--tracking-uri", "none")
    options = ["--models", models, "--data", data, "--store", store, "--batch-size", str(IMAGES), *tracking, *flags]
    return begin("evaluate", *options, env=env)


def begin(job: str, *options: str, env: dict[str, str] | None = None) -> Driver:
    """`python -m jobs.JOB` with `options`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [sys.executable, "-m", f"jobs.{job}", *options]
    return Driver(subprocess.Popen(command, cwd=ROOT, env=os.environ | (env or {}), **pipes))


def committed(store: str) -> dict[str, bytes]:
    """The content of each cell, by its name below the store."""
    found = storage.list_objects(storage.join(store, "cells"))
    return {entry.uri.removeprefix(store): storage.read(entry.uri) for entry in found}


def keys(store: str) -> list[str]:
    """The key of every row of every cell, in order."""
    found = storage.list_objects(storage.join(store, "cells"))
    return sorted(key for entry in found for key in read_cell(entry.uri, 10)["key"].to_pylist())


def logged_below_sweeps(tracking_uri: str) -> list[Run]:
    """The MLflow runs of models: each lies below that of its dataset's sweep."""
    client = MlflowClient(tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, "tags.mlflow.parentRunId LIKE '%'")


def wait_until(true: Callable[[], object], driver: Driver | None = None, seconds: float = 120) -> None:
    """Wait for `true`; fails where the driver ends before, or the time."""
    until = time.monotonic() + seconds
    while not true():
        if driver and driver.process.poll() is not None:
            raise AssertionError(f"it ended before: {driver.wait()[1]}")
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


def new_cluster(cpus: int) -> Cluster:
    """A Ray cluster with a head of so many CPUs, which only those join that are told its address."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus})
    reset_ray_address()  # it has made itself this machine's own
    return cluster


def workers(raylet: int, name: str = "MapBatches") -> list[psutil.Process]:
    """Ray's worker processes below the raylet of this pid that run `name` now."""
    return [
        child
        for child in psutil.Process(raylet).children()
        if _title(child).startswith("ray::") and name in _title(child)
    ]


def _title(process: psutil.Process) -> str:
    try:
        return process.cmdline()[0]
    except (psutil.NoSuchProcess, IndexError):
        return ""


def raylet(node: Node) -> int:
    """The pid of a node's raylet."""
    return node.all_processes["raylet"][0].process.pid
