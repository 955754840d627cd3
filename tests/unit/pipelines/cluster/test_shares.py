"""cluster.shares, cluster.connection: every step always has room; a token is made, private, and required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cluster.shares import share
from tests.support.paths import ROOT


@given(st.integers(1, 10_000))
def test_everything_that_three_jobs_with_models_on_cpus_may_hold_fits_beside_each_other(cpus) -> None:
    shares = share(cpus, 0, "cpu")
    assert shares.actors >= 1 and shares.decoders
    held = shares.readers * shares.read_cpus + shares.decoders * shares.decode_cpus
    assert 3 * (held + shares.actors * shares.actor_cpus) <= cpus


@given(st.integers(0, 10_000), st.integers(1, 1000))
def test_with_models_on_gpus_no_actor_waits_for_a_cpu(cpus, gpus) -> None:
    """And a CPU has room for reading beside decoding."""
    shares = share(cpus, gpus, "cuda")
    assert (shares.actor_cpus, shares.actors * shares.actor_gpus) == (0, gpus)
    assert shares.read_cpus + shares.decode_cpus <= 1
    assert shares.readers * shares.read_cpus <= 0.4 * max(1, cpus)


@given(st.integers(1, 10_000))
def test_reading_and_decoding_have_different_shares_or_ray_data_would_fuse_them(cpus) -> None:
    for shares in (share(cpus, 0, "cpu"), share(cpus, 1, "cuda")):
        assert shares.read_cpus != shares.decode_cpus


def test_every_gpu_gets_one_actor() -> None:
    assert share(16, 4, "cuda").actors == 4


def test_a_gpu_that_is_not_there_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"--device cuda: the cluster has 0 GPUs; choose cpu, or auto"):
        share(16, 0, "cuda")


def test_a_token_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    env = os.environ | {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path), "RAY_ADDRESS": "127.0.0.1:6379"}
    program = "from pipelines.cluster import connection; connection.connect()"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=env)
    assert "\nValueError: the cluster requires a token that is missing or different here" in done.stderr


def test_a_ray_that_is_started_here_asks_for_a_token_that_only_its_owner_can_read(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(tmp_path)}
    program = (
        "import os; from pipelines.cluster import connection; connection.connect(); print(os.environ['RAY_AUTH_MODE'])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.stdout.split() == ["token"], done.stderr
    token = tmp_path / ".ray" / "auth_token"
    assert len(token.read_text()) == 64
    assert token.stat().st_mode & 0o777 == 0o600
