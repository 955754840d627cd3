"""Covers jobs.console.signals: a signal unwinds a job, or ends it after some seconds."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest
import ray

from jobs.console import cli, signals
from tests.support.paths import ROOT

JOB = """
import dataclasses, sys, time
from jobs.console import cli
from jobs.console import signals

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.Job):
    pass

def run(_):
    while True:
        try:
            print("running", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            if sys.argv[1] == "polite":
                raise

signals._GRACE_SECONDS = 1
sys.exit(cli.run_job(Config, run, []))
"""


def start(manner: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JOB, manner]
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout
    assert job.stdout.readline() == "running\n"
    return job


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, cli.TERMINATED), (signal.SIGINT, cli.INTERRUPTED)])
def test_a_signal_unwinds_the_job_and_its_exit_code_says_which(number: signal.Signals, code: int) -> None:
    job = start("polite")
    job.send_signal(number)
    assert job.communicate(timeout=20)[1] == "stopped; the same command continues from here\n"
    assert job.returncode == code


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, cli.TERMINATED), (signal.SIGINT, cli.INTERRUPTED)])
def test_so_it_does_while_the_job_waits_for_ray(number: signal.Signals, code: int) -> None:
    def run(_: Config) -> int:
        sleeping = ray.remote(lambda: time.sleep(20)).options(num_cpus=0).remote()
        threading.Timer(1, os.kill, (os.getpid(), number)).start()
        ray.get(sleeping)
        return 0

    assert cli.run_job(Config, run, []) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_does_not_unwind_is_ended(number: signal.Signals) -> None:
    job, began = start("deaf"), time.monotonic()
    job.send_signal(number)
    job.communicate(timeout=20)
    assert job.returncode == 128 + number
    assert time.monotonic() - began >= 1


@dataclass(frozen=True, kw_only=True)
class Config(cli.Job):
    """Nothing to choose."""


def test_who_calls_a_job_lives_on_and_hears_signals_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_GRACE_SECONDS", 0.1)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def told(_: Config) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert cli.run_job(Config, told, []) == cli.TERMINATED
    time.sleep(0.3)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1
