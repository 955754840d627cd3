"""Joining a Ray cluster, or starting one on this machine.

Whoever reaches a Ray cluster can run code on it, so a cluster that is started here requires a token.
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
"""Below the home folder: where Ray looks for the token of a cluster."""


def connect(about: Mapping[str, str] | None = None) -> None:
    """Join the cluster that RAY_ADDRESS names (as under `ray job submit`) or that runs here, or start one.

    A cluster that is started here requires a token, in a file that only its owner can read.

    Args:
        about: metadata for Ray to show beside this job's name.

    Raises:
        ValueError: if the cluster requires a token, and there is none here or another.
    """
    if not ray.is_initialized():
        if is_alone():
            _make_token()
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except AuthenticationError as error:
            remedy = "export RAY_AUTH_MODE=token, and put the token into ~/.ray/auth_token or set RAY_AUTH_TOKEN_PATH"
            raise ValueError(f"the cluster requires a token that is missing or different here: {remedy}") from error
    if about:
        _show(about)
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def is_alone() -> bool:
    """Whether there is no cluster to join; `connect` then starts one of this machine alone, without an autoscaler."""
    return services.canonicalize_bootstrap_address(None) is None  # pyright: ignore[reportArgumentType]


def shipped_folder() -> Path | None:
    """The working folder that was shipped to the cluster with this job; None if the job runs where it was started."""
    config = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}"))
    return Path.cwd() if (config.get("runtime_env") or {}).get("working_dir") else None


def _show(about: Mapping[str, str]) -> None:
    """Add metadata that `ray job list` and the dashboard show; only submitted jobs have any."""
    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")).get("metadata", {}).get("job_submission_id")
    key = JobInfoStorageClient.JOB_DATA_KEY.format(job_id=job).encode()
    if job and (stored := internal_kv._internal_kv_get(key, namespace=KV_NAMESPACE_JOB)):
        info = json.loads(stored)
        info["metadata"] = {**(info.get("metadata") or {}), **about}
        internal_kv._internal_kv_put(key, json.dumps(info).encode(), overwrite=True, namespace=KV_NAMESPACE_JOB)


def _make_token() -> None:
    """Make a token file unless a token is configured. Ray would make one that everybody can read."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(
        os.environ
    ):
        return
    path = Path.home() / _TOKEN
    with suppress(OSError):  # a home that cannot be written may have a token already; otherwise Ray reports it
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            new = path.with_name(f"{path.name}.{os.getpid()}")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
            with suppress(FileExistsError):  # another job has made one at the same moment
                os.link(new, path)
            new.unlink()
        path.chmod(0o600)
