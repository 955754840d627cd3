"""Shares of CPUs and GPUs: every step always has room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cluster import share


@given(st.integers(1, 10_000), st.integers(0, 1000), st.sampled_from(["cpu", "cuda"]))
def test_everything_that_three_jobs_on_one_cluster_may_hold_fits_beside_each_other(cpus, gpus, device) -> None:
    if device == "cuda" and not gpus:
        return
    shares = share(cpus, gpus, device)
    held = shares.readers * shares.read_cpus + shares.decoders * shares.decode_cpus
    actors = shares.actors if device == "cpu" else 0
    assert shares.actors >= 1
    assert 3 * (held + actors * shares.actor_cpus) <= cpus
    assert shares.actors * shares.actor_gpus <= gpus


@given(st.integers(1, 10_000))
def test_reading_and_decoding_have_different_shares_or_ray_data_would_fuse_them(cpus) -> None:
    shares = share(cpus, 0, "cpu")
    assert shares.read_cpus != shares.decode_cpus


def test_every_gpu_gets_one_actor() -> None:
    assert share(16, 4, "cuda").actors == 4


def test_a_gpu_that_is_not_there_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"--device cuda: the cluster has 0 GPUs; choose cpu, or auto"):
        share(16, 0, "cuda")
