"""How a cluster's CPUs and GPUs are shared out to the steps of the walk.

Every step always has room to run, on any number of cores, and a cluster that grows by itself is asked for what the
steps need. Machines are started and stopped by Ray's autoscaler, never here.
"""

from dataclasses import dataclass

import ray
from ray.exceptions import GetTimeoutError

_READ_CPUS = 0.1
"""Reading waits for storage most of the time. Unlike decode's share, or Ray Data would fuse the two steps into one
task a shard, and a dataset of few shards would decode on few cores."""


_DECODE_CPUS = {"cpu": 0.2, "cuda": 0.9}
"""Beside models on CPUs decoding takes a part of a core. Where GPUs run the models it takes one whole, less what is
left for reading: an autoscaler adds nodes for what is asked for, and would add a fifth of what is needed."""


_WEIGHTS_SHARE = 0.5
"""Of what memory an actor has on a node, its models; the rest is for what they compute, and for decoding."""


_ACTOR_CPUS = {"cpu": 0.01, "cuda": 0.0}
"""Not none on CPUs: then actors would be put on a head that has no CPUs so that nothing runs there. None with a GPU,
or tasks that decode for actors could take the CPU that these actors wait for."""


_NODE_SECONDS = 600.0
"""That a lost node has to be replaced, or the first to come."""


class NoDeviceError(ValueError):
    """What models should run on is not there: never was, or is not there any more, and none was asked for."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How many scorers, reading and decoding tasks run at once, and each one's logical CPUs and GPUs.

    With models on CPUs they hold less than a third of these together. Tasks that wait for the next step keep their
    share, and an actor keeps it as long as its job lives: were all CPUs given away, by one job or by two on one
    cluster, some step of each could have no room, and all would wait for ever. With models on GPUs actors hold no CPU,
    so that what decoding holds is free again as soon as they take what is decoded, and reading holds less than half;
    there are as many decoding tasks as the CPUs have room for (None), also when there are more of these later. Of two
    jobs the one that waits for GPUs may hold CPUs of the other; Ray Data gives each job its part of them.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    readers: int
    read_cpus: float
    decoders: int | None
    decode_cpus: float


def share(cpus: float, gpus: float, device: str) -> Shares:
    """How `cpus` logical CPUs and `gpus` GPUs are shared out when models run on `device`.

    On CPUs there is an actor of one thread and a decoding task for every core; cores that one step leaves idle the
    operating system gives to the other. With GPUs an actor has one whole, and a shard is read for each.

    Raises:
        NoDeviceError: if `device` is a GPU and there is none.
    """
    cores = max(1, int(cpus))
    if device != "cpu" and gpus < 1:
        told = f"--device {device}: the cluster has {gpus:g} GPUs; choose cpu, or auto to take what is there"
        raise NoDeviceError(told)
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
    """Logical CPUs and GPUs of the whole cluster now."""
    total = ray.cluster_resources()
    return total.get("CPU", 0.0), total.get("GPU", 0.0)


def has_node(device: str) -> bool:
    """Whether there is a node now on which models can run on `device`."""
    return resources()[device != "cpu"] >= 1


def await_node(device: str) -> None:
    """Wait for a node on which models can run on `device`; the autoscaler, where there is one, starts it for that.

    Raises:
        NoDeviceError: if none comes.
    """
    if has_node(device):
        return
    asking = ray.remote(_nothing).options(num_cpus=_READ_CPUS, num_gpus=int(device != "cpu")).remote()
    try:
        ray.get(asking, timeout=_NODE_SECONDS)
    except GetTimeoutError:
        ray.cancel(asking)
        raise NoDeviceError(f"no node for --device {device} has come in {_NODE_SECONDS / 60:.0f} minutes") from None


def _nothing() -> None:
    pass


def actor_memory(device: str) -> int | None:
    """Bytes that an actor's models may take on the smallest node.

    None on a GPU, whose memory says so itself, and while no node has a CPU.
    """
    if device != "cpu":
        return None
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return int(min((_WEIGHTS_SHARE * node["memory"] / max(1, int(node["CPU"])) for node in nodes), default=0)) or None
