"""Ray, as a job uses it: joined or started, with a device that models can run on.

Ray takes seconds to load, so it is imported inside the functions: --help, --dry-run and a finished job need none of it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from jobs.console import signals
from jobs.console.progress import say

_LARGE_MB = 50
"""Half of what Ray takes with a job; the code alone has less than 5 MB. A folder above 100 MiB is refused by `ray job
submit` itself, before anything of ours runs."""
_MOST_FILES = 100_000
"""Files that are counted; more are said to be at least so many bytes."""


def connect(about: Mapping[str, str] | None = None) -> None:
    """Start or join Ray and keep the job's own handling of signals.

    Args:
        about: metadata that Ray shows with this job.
    """
    from pipelines.cluster import connection

    connection.connect(about)
    signals.install_handlers()
    if (folder := connection.shipped_folder()) and (warning := large_folder_warning(folder)):
        say(f"warning: {warning}")


def large_folder_warning(folder: Path) -> str | None:
    """What is large in a working folder above 50 MB, all of which every node has to fetch; None for a smaller one."""
    sizes = _sizes(folder)
    total = sum(sizes.values())
    if total <= _LARGE_MB * 1e6:
        return None
    largest = sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))[:3]
    what = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in largest)
    return (
        f"the working folder of this job has {total / 1e6:,.0f} MB ({what}), which every node fetches, and "
        "Ray refuses more than 100; name in .rayignore what nodes do not need, and keep data in a store"
    )


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes below each entry of `folder`; links are not followed."""
    sizes: dict[str, int] = {}
    files = 0
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder).parts[:1]
        for name in names[: _MOST_FILES - files]:
            entry = below[0] if below else name
            sizes[entry] = sizes.get(entry, 0) + (Path(place) / name).lstat().st_size
        files += len(names)
    return sizes


def require_device(device: str, gpus: int, about: Mapping[str, str] | None = None) -> str:
    """Start or join Ray and resolve the device that models run on.

    Args:
        device: `cpu`, `cuda` or `auto`.
        gpus: how many an autoscaler may be asked for.
        about: metadata that Ray shows with this job.

    Returns:
        `cpu` or `cuda`.

    Raises:
        ValueError: if the cluster has no such device.
    """
    from pipelines.cluster import connection
    from pipelines.cluster.shares import has_node
    from pipelines.walk import filling

    connect(about)
    if gpus and connection.is_alone():
        raise ValueError(
            f"--gpus {gpus}: there is no cluster that could start GPUs; set RAY_ADDRESS to the address of one"
        )
    device = filling.resolve_device(device, gpus)
    if not has_node(device):
        say(f"waiting  for a node with a {'CPU' if device == 'cpu' else 'GPU'}: the cluster has none yet")
    return device
