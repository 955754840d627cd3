"""Ray, as a job uses it: joined or started, with a device that models can run on.

Ray takes seconds to load, so it is imported inside the functions: --help, --dry-run and a finished job need none of it.
"""

from collections.abc import Mapping

from jobs.console import signals
from jobs.console.progress import say


def connect(about: Mapping[str, str] | None = None) -> None:
    """Start or join Ray and keep the job's own handling of signals.

    Args:
        about: metadata that Ray shows with this job.
    """
    from pipelines.cluster import connection

    connection.connect(about)
    signals.install_handlers()


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
