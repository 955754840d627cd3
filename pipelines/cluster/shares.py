"""How a cluster's CPUs and GPUs are divided among the steps of the walk.

Every step always has room to run, on any number of cores, and an autoscaler sees requests for what the steps need.
Ray's autoscaler starts and stops machines; nothing here does.
"""

from dataclasses import dataclass

import ray
from ray.exceptions import GetTimeoutError

_READ_CPUS = 0.1
"""Reading waits for storage most of the time. Its share must differ from decoding's: otherwise Ray Data would fuse the
two steps into one task a shard, and a dataset of few shards would be decoded on few cores."""


_DECODE_CPUS = {"cpu": 0.2, "cuda": 0.9}
"""Beside models on CPUs decoding takes a part of a core. Beside models on GPUs it takes a whole core, less the share of
reading: an autoscaler adds nodes for what is requested, and would otherwise add a fifth of what is needed."""


_WEIGHTS_SHARE = 0.5
"""Part of an actor's memory that its models may take; the rest is for activations and for decoding."""


_ACTOR_CPUS = {"cpu": 0.01, "cuda": 0.0}
"""Non-zero on CPUs, so that no actor lands on a head node that advertises zero CPUs. Zero with a GPU: otherwise
an actor could wait for a CPU that a decoding task holds while that task waits for the actor."""


_NODE_SECONDS = 600.0
"""Time for an autoscaler to replace a lost node, or to start the first."""


class NoDeviceError(ValueError):
    """The cluster has no device for the models: it never had one, or has lost it and no autoscaler has replaced it."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How many scorers, reading tasks and decoding tasks run at once, and the logical CPUs and GPUs of each.

    With models on CPUs all of them together hold less than a third of the CPUs. A task that waits for the next step
    keeps its share, and an actor keeps its share as long as its job lives. If one job, or two on one cluster, took all
    CPUs, some step of each could have no room, and all would wait for ever.

    With models on GPUs actors hold no CPU, so decoding's share is free again as soon as an actor takes the decoded
    chunk, and reading holds less than half. There are as many decoding tasks as the CPUs have room for (None), also
    when the cluster grows. Of two jobs the one that waits for GPUs may hold CPUs that the other needs; Ray Data gives
    each job its part of them.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    readers: int
    read_cpus: float
    decoders: int | None
    decode_cpus: float


def share(cpus: float, gpus: float, device: str) -> Shares:
    """The division of `cpus` logical CPUs and `gpus` GPUs among the steps, with models on `device`.

    On CPUs there is an actor of one thread and a decoding task for every core; the operating system lets either step
    use the cores that the other leaves idle. With GPUs an actor has a whole one, and a shard is read for each.

    Raises:
        NoDeviceError: if `device` is a GPU and there is none.
    """
    cores = max(1, int(cpus))
    if device != "cpu" and gpus < 1:
        raise NoDeviceError(f"--device {device}: the cluster has {gpus:g} GPUs; choose cpu, or auto for what it has")
    return Shares(
        actors=cores if device == "cpu" else int(gpus),
        actor_cpus=_ACTOR_CPUS[device],
        actor_gpus=0.0 if device == "cpu" else 1.0,
        readers=max(1, cores // 2) if device == "cpu" else min(max(cores // 2, int(gpus)), 4 * cores),
        read_cpus=_READ_CPUS,
        decoders=cores if device == "cpu" else None,
        decode_cpus=_DECODE_CPUS[device],
    )


def resources() -> tuple[float, float]:
    """The logical CPUs and GPUs of the whole cluster at present."""
    total = ray.cluster_resources()
    return total.get("CPU", 0.0), total.get("GPU", 0.0)


def has_node(device: str) -> bool:
    """Whether the cluster has a node at present on which models can run on `device`."""
    return resources()[device != "cpu"] >= 1


def await_node(device: str) -> None:
    """Wait for a node on which models can run on `device`; the request for it makes an autoscaler start one.

    Raises:
        NoDeviceError: if there is none after ten minutes.
    """
    if has_node(device):
        return
    request = ray.remote(_nothing).options(num_cpus=_READ_CPUS, num_gpus=int(device != "cpu")).remote()
    try:
        ray.get(request, timeout=_NODE_SECONDS)
    except GetTimeoutError:
        ray.cancel(request)
        raise NoDeviceError(f"no node for --device {device} has joined in {_NODE_SECONDS / 60:.0f} minutes") from None


def _nothing() -> None:
    pass


def actor_memory(device: str) -> int | None:
    """Bytes that an actor's models may take on the smallest node.

    None on a GPU, where running out of memory is the limit, and while no node has a CPU.
    """
    if device != "cpu":
        return None
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return int(min((_WEIGHTS_SHARE * node["memory"] / max(1, int(node["CPU"])) for node in nodes), default=0)) or None
