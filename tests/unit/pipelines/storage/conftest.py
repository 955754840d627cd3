"""Fixtures of tests of S3: short pauses, small parts, no patience, and a folder behind the fault proxy."""

import pytest

from pipelines import storage
from pipelines.storage import s3_retries, s3_write
from tests.support.fault_proxy import FaultProxy
from tests.support.s3_objects import CONTENT, PART


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes pauses short and parts small, so that no test takes long."""
    monkeypatch.setattr(s3_retries, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(s3_write, "_UPLOAD_PART_BYTES", PART)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes three attempts, the fewest, so that a longer fault is an error."""
    monkeypatch.setattr(s3_retries, "_PATIENCE_SECONDS", 0)
    monkeypatch.setattr(s3_retries, "_FIRST_SECONDS", 0)


@pytest.fixture
def folder(faulty_s3: tuple[str, FaultProxy]) -> str:
    """A folder with one object, `a`."""
    storage.put(f"{faulty_s3[0]}/a", CONTENT)
    return faulty_s3[0]


@pytest.fixture
def proxy(faulty_s3: tuple[str, FaultProxy]) -> FaultProxy:
    return faulty_s3[1]
