"""A store whose faults tests choose, and a cluster that reaches it."""

import os
from collections.abc import Iterator

import pytest

from pipelines import storage
from tests.support import faulty_runs
from tests.support.fault_proxy import FaultProxy


@pytest.fixture(scope="module")
def network(s3_server: str) -> Iterator[FaultProxy]:
    """Between everything and the store."""
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        storage.forget_clients()
        yield proxy
    storage.forget_clients()


@pytest.fixture(scope="module")
def address(network: FaultProxy) -> Iterator[str]:
    """A Ray cluster whose workers reach the store through the proxy."""
    cluster = faulty_runs.new_cluster(2)
    yield str(cluster.address)
    cluster.shutdown()
