"""Connecting to Ray, and how its CPUs and GPUs are shared out to the steps of the walk.

Owns the shares: that every step always has room to run, on any number of cores. Refuses to start or stop machines.
"""

import logging
from dataclasses import dataclass

import ray

_READ_CPUS = 0.2
"""Reading waits for storage most of the time. Unlike decode's share, or Ray Data would fuse the two steps into one
task a shard, and a dataset of few shards would decode on few cores."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Logical CPUs and GPUs of each step: `actors` scorers of `actor_cpus` and `actor_gpus`, and one task's share.

    One actor, one reading and one decoding task always fit beside each other: were all CPUs given to actors, nothing
    could read, and the walk would wait for ever.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    readers: int
    read_cpus: float
    decode_cpus: float


def share(cpus: float, gpus: float, device: str) -> Shares:
    """How `cpus` logical CPUs and `gpus` GPUs are shared out when models run on `device`.

    On CPUs an actor runs one thread on every core and holds half of it, tasks have the other half; cores that one step
    leaves idle the operating system gives to the other. With GPUs an actor has one whole and no CPU.

    Raises:
        ValueError: if `device` is a GPU and there is none.
    """
    cores = max(1, int(cpus))
    decode_cpus = 0.25 if cores == 1 else 0.5
    readers = max(1, cores // 2)
    if device == "cpu":
        return Shares(cores, 0.5, 0.0, readers, _READ_CPUS, decode_cpus)
    if gpus < 1:
        raise ValueError(f"--device {device}: the cluster has {gpus:g} GPUs; choose cpu, or auto to take what is there")
    return Shares(int(gpus), 0.0, 1.0, readers, _READ_CPUS, decode_cpus)


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names (as under `ray job submit`) or that runs here, or start one."""
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def resources() -> tuple[float, float]:
    """Logical CPUs and GPUs of the whole cluster now."""
    total = ray.cluster_resources()
    return total.get("CPU", 0.0), total.get("GPU", 0.0)
