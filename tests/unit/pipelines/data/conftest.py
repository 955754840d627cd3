"""A fixture of tests of datasets: small objects in a folder of the store."""

from collections.abc import Callable

import pytest

from pipelines import storage


@pytest.fixture
def fill(store: str) -> Callable[..., str]:
    """Puts small objects into a folder of the store and gives the folder."""

    def put(*names: str, folder: str = "val") -> str:
        for name in names:
            storage.put(f"{store}/{folder}/{name}", name.encode())
        return f"{store}/{folder}"

    return put
