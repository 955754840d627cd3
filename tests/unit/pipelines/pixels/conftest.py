"""Fixtures of tests of the sandbox: no child before and after a test, and children in which poison works."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.pixels.sandbox import Limits
from tests.support.paths import ROOT
from tests.support.sandboxes import children, close, limit


@pytest.fixture
def fresh_child() -> Iterator[None]:
    """No child before the test, and none that it leaves."""
    close()
    before = children()
    yield
    close()
    assert children() <= before


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The `sitecustomize.py` of children."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "sitecustomize.py"


@pytest.fixture
def faults(fresh_child: None, site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Children in which poison works, and that are limited so that tests are short."""
    shutil.copy(ROOT / "tests" / "support" / "poison.py", site)
    limit(monkeypatch, Limits(seconds=1, ending_seconds=0.5, memory=256 << 20))
    yield
    close()
