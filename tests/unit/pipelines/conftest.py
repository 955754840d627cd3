"""Fixtures of tests that talk to a scripted store."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.scripted_store import ScriptedStore, scripted_store


@pytest.fixture
def scripted(s3_keys: tuple[str, str], at_endpoint: Callable[[str], None]) -> Iterator[ScriptedStore]:
    """The store that our storage talks to."""
    with scripted_store() as store:
        at_endpoint(store.url)
        yield store
