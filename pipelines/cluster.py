"""Connecting to Ray, and how its CPUs and GPUs are shared out to the steps of the walk.

Owns the shares: that every step always has room to run, on any number of cores, and that a cluster which grows by
itself is asked for what the steps need. Refuses to start or stop machines: Ray's autoscaler does.
"""

import json
import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private import services
from ray._private.ray_constants import KV_NAMESPACE_JOB
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.dashboard.modules.job.common import JobInfoStorageClient
from ray.exceptions import AuthenticationError, GetTimeoutError
from ray.experimental import internal_kv

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
_TOKEN = Path(".ray", "auth_token")
"""Below the home, where Ray keeps the token of the clusters that it starts."""


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


def connect(about: Mapping[str, str] | None = None) -> None:
    """Join the cluster that RAY_ADDRESS names (as under `ray job submit`) or that runs here, or start one.

    Whoever reaches a Ray cluster can run code on it, so one that is started here asks for a token, in a file that only
    its owner can read.

    Args:
        about: what Ray is to show of this job beside its name.

    Raises:
        ValueError: if the cluster asks for a token, and there is none here or another.
    """
    if not ray.is_initialized():
        if is_alone():
            _make_token()
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except AuthenticationError as error:
            told = (
                "export RAY_AUTH_MODE=token and put the cluster's into ~/.ray/auth_token, or name RAY_AUTH_TOKEN_PATH"
            )
            raise ValueError(f"the cluster wants a token, and there is none here or another: {told}") from error
    if about:
        _show(about)
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def is_alone() -> bool:
    """Whether there is no cluster to join, so that a Ray of one machine is started here; it has no autoscaler."""
    return services.canonicalize_bootstrap_address(None) is None  # pyright: ignore[reportArgumentType]


def _show(about: Mapping[str, str]) -> None:
    """Add to what `ray job list` and the dashboard show of a submitted job; jobs of another kind have no such place."""
    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")).get("metadata", {}).get("job_submission_id")
    key = JobInfoStorageClient.JOB_DATA_KEY.format(job_id=job).encode()
    if job and (said := internal_kv._internal_kv_get(key, namespace=KV_NAMESPACE_JOB)):
        told = json.loads(said)
        told["metadata"] = {**(told.get("metadata") or {}), **about}
        internal_kv._internal_kv_put(key, json.dumps(told).encode(), overwrite=True, namespace=KV_NAMESPACE_JOB)


def _make_token() -> None:
    """Where none is named: Ray makes one too, but readable to all."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(
        os.environ
    ):
        return
    path = Path.home() / _TOKEN
    with suppress(OSError):  # a home that cannot be written has a token already, or Ray says what is wrong
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            new = path.with_name(f"{path.name}.{os.getpid()}")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
            with suppress(FileExistsError):  # another job's, made at the same time
                os.link(new, path)
            new.unlink()
        path.chmod(0o600)


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
