"""models.mirror with a store that fails: requests that storage has retried are not retried again."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

import zoo
from pipelines import storage
from pipelines.models import mirror
from pipelines.storage import s3_read, s3_retries
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from zoo.weights.wanted import Wanted

CONTENT = bytes(range(256)) * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = zoo.WeightsFile(location=f"http://127.0.0.1:9/net-{DIGEST[:8]}.pth", sha256=DIGEST, license=None)


@pytest.fixture
def wanted(faulty_s3: tuple[str, FaultProxy], new_machine: Callable[[], Path]) -> Wanted:
    """Weights in a store and nowhere else."""
    new_machine()
    folder, _ = faulty_s3
    storage.put(f"{folder}/weights/net-{DIGEST[:8]}.pth", CONTENT)
    file = mirror.find(folder, dataclasses.replace(zoo.card("efficientnet_lite0"), weights=FILE))
    return dataclasses.replace(file, sources=file.sources[:1])


@pytest.mark.parametrize(
    ("status", "words", "requests"), [(403, r"403 \(403\): rejected", 1), (503, r"503 \(503\)", 3)]
)
def test_a_store_that_refuses_or_is_away_is_asked_no_more_than_storage_asks(
    wanted: Wanted,
    faulty_s3: tuple[str, FaultProxy],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    words: str,
    requests: int,
) -> None:
    for patience in ("_FIRST_SECONDS", "_PATIENCE_SECONDS"):
        monkeypatch.setattr(s3_retries, patience, 0)
    _, proxy = faulty_s3
    proxy.seen.clear()
    proxy.faults.append(Fault("status", match=r"\.pth", argument=status))
    with pytest.raises(FileNotFoundError, match=f"is not available: {wanted.sources[0]}: .*{words}"):
        mirror.obtain(wanted)
    assert len(proxy.seen) == requests


def test_a_body_that_breaks_off_is_asked_for_again_from_there(
    wanted: Wanted, faulty_s3: tuple[str, FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_read, "_PART_BYTES", 10_000)
    _, proxy = faulty_s3
    proxy.seen.clear()
    proxy.faults.append(Fault("truncate", match="^GET", times=2))
    assert mirror.obtain(wanted).read_bytes() == CONTENT
    assert len([request for request in proxy.seen if request.startswith("GET")]) == 3 + 2
