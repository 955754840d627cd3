"""Joining the Ray cluster at hand, or starting one that asks for a token.

Whoever reaches a Ray cluster can run code on it, so one that is started here always asks for a token.
"""

import json
import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import ray
from ray._private import services
from ray._private.ray_constants import KV_NAMESPACE_JOB
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.dashboard.modules.job.common import JobInfoStorageClient
from ray.exceptions import AuthenticationError
from ray.experimental import internal_kv

_TOKEN = Path(".ray", "auth_token")
"""Below the home, where Ray keeps the token of the clusters that it starts."""


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
