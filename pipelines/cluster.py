"""Connecting to Ray, and how its CPUs and GPUs are shared out to the steps of the walk.

Owns the shares: that every step always has room to run, on any number of cores. Refuses to start or stop machines.
"""

import logging
from dataclasses import dataclass

import ray

_READ_CPUS, _DECODE_CPUS = 0.1, 0.2
"""Reading waits for storage most of the time. Unlike decode's share, or Ray Data would fuse the two steps into one
task a shard, and a dataset of few shards would decode on few cores."""
_WEIGHTS_SHARE = 0.5
"""Of what memory an actor has on a node, its models; the rest is for what they compute, and for decoding."""
_ACTOR_CPUS = 0.01
"""Not none: then actors would be put on a head that has no CPUs so that nothing runs there."""


class NoDeviceError(ValueError):
    """What models should run on is not there: never was, or is not there any more."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How many scorers, reading and decoding tasks run at once, and each one's logical CPUs and GPUs.

    Together they hold less than a third of the CPUs. Tasks that wait for the next step keep their share, and an actor
    keeps it as long as its job lives: were all CPUs given away, by one job or by two on one cluster, some step of each
    could have no room, and all would wait for ever.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    readers: int
    read_cpus: float
    decoders: int
    decode_cpus: float


def share(cpus: float, gpus: float, device: str) -> Shares:
    """How `cpus` logical CPUs and `gpus` GPUs are shared out when models run on `device`.

    On CPUs there is an actor of one thread and a decoding task for every core; cores that one step leaves idle the
    operating system gives to the other. With GPUs an actor has one whole.

    Raises:
        NoDeviceError: if `device` is a GPU and there is none.
    """
    cores = max(1, int(cpus))
    if device != "cpu" and gpus < 1:
        told = f"--device {device}: the cluster has {gpus:g} GPUs; choose cpu, or auto to take what is there"
        raise NoDeviceError(told)
    return Shares(
        actors=cores if device == "cpu" else int(gpus),
        actor_cpus=_ACTOR_CPUS,
        actor_gpus=0.0 if device == "cpu" else 1.0,
        readers=max(1, cores // 2),
        read_cpus=_READ_CPUS,
        decoders=cores,
        decode_cpus=_DECODE_CPUS,
    )


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names (as under `ray job submit`) or that runs here, or start one."""
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def resources() -> tuple[float, float]:
    """Logical CPUs and GPUs of the whole cluster now."""
    total = ray.cluster_resources()
    return total.get("CPU", 0.0), total.get("GPU", 0.0)


def actor_memory(device: str) -> int | None:
    """Bytes that an actor's models may take on the smallest node.

    None on a GPU, whose memory says so itself, and while no node has a CPU.
    """
    if device != "cpu":
        return None
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return int(min((_WEIGHTS_SHARE * node["memory"] / max(1, int(node["CPU"])) for node in nodes), default=0)) or None
