"""Covers pipelines.storage.s3_read, s3_write, s3_retries: passing faults change no result, lasting ones are an error.

Every request goes through a proxy to a real S3 server. Messages of errors are in test_s3_errors.py, uploads in parts
in test_s3_uploads.py.
"""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines import storage
from pipelines.storage import s3_client, s3_read, s3_retries
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy
from tests.support.s3_objects import CONTENT, LARGE, content, put_in_parts

pytestmark = pytest.mark.usefixtures("small_parts")

FAULTS: dict[str, list[Fault]] = {
    "statuses": [Fault("status", argument=code, times=1) for code in (503, 500, 429)],
    "reset": [Fault("reset", times=2)],
    "lost_ack": [Fault("lost_ack", times=2)],
    "hang": [Fault("hang", argument=0.5, times=1)],
    "truncate": [Fault("truncate", times=2)],
    "stall": [Fault("stall", argument=0.5, times=1)],
}
WITH_EVERY_METHOD = ["statuses", "reset", "lost_ack", "hang"]


@pytest.fixture
def short_reads(faulty_s3: tuple[str, FaultProxy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a silent store time out soon."""
    monkeypatch.setattr(s3_client, "_READ_SECONDS", 0.3)
    storage.forget_clients()


def copies(faults: str, match: str = "") -> list[Fault]:
    return [replace(fault, match=match) for fault in FAULTS[faults]]


def ranged(folder: str) -> bytes:
    with storage.open_input(f"{folder}/a") as stream:
        stream.seek(-3000, io.SEEK_END)
        return stream.read()


READS: dict[str, Callable[[str], Any]] = {
    "get": lambda folder: storage.read(f"{folder}/a"),
    "stat": lambda folder: storage.stat(f"{folder}/a"),
    "list": lambda folder: list(storage.list_objects(folder)),
    "ranged": ranged,
}
WRITES: dict[str, Callable[[str], Any]] = {
    "put": lambda folder: storage.put(f"{folder}/b", b"new"),
    "replace": lambda folder: storage.replace(f"{folder}/a", b"new"),
    "remove": lambda folder: storage.remove([f"{folder}/a"]),
    "put_in_parts": put_in_parts,
}


REQUESTS = {"put": "^PUT", "replace": "^PUT", "remove": "^POST .*delete", "put_in_parts": "partNumber=1"}
"""The request that each operation sends."""
WRITTEN = {
    "put": {"a": CONTENT, "b": b"new"},
    "replace": {"a": b"new"},
    "remove": {},
    "put_in_parts": {"a": CONTENT, "large": LARGE},
}


@pytest.mark.parametrize("faults", FAULTS)
def test_a_fault_that_passes_changes_nothing_that_is_read(
    folder: str, proxy: FaultProxy, short_reads: None, faults: str
) -> None:
    for name, read in READS.items():
        expected = read(folder)
        proxy.faults, before = copies(faults), proxy.counts.total()
        assert read(folder) == expected, name
        bodiless = name == "stat" and faults not in WITH_EVERY_METHOD
        assert proxy.counts.total() - before == (0 if bodiless else sum(fault.times or 0 for fault in FAULTS[faults]))
        proxy.faults = []


@pytest.mark.parametrize("faults", WITH_EVERY_METHOD)
def test_a_fault_that_passes_changes_nothing_that_is_written(
    folder: str, proxy: FaultProxy, short_reads: None, faults: str
) -> None:
    """If acknowledgements are lost, the second attempt finds the object of the first."""
    for name, write in WRITES.items():
        place = f"{folder}/{name}"
        storage.put(f"{place}/a", CONTENT)
        proxy.faults = copies(faults, match=REQUESTS[name])
        write(place)
        assert all(fault.times == 0 for fault in proxy.faults), name
        assert content(place) == WRITTEN[name], name
    assert storage.leftovers(folder, -60) == []


@pytest.mark.parametrize(
    ("kind", "argument"),
    [("status", 429), ("reset", None), ("hang", 0.5), ("stall", 0.5), ("truncate", None)],
)
def test_a_fault_that_lasts_is_an_unavailable_store_after_a_bounded_number_of_attempts(
    folder: str, proxy: FaultProxy, short_reads: None, no_patience: None, kind: str, argument: float | None
) -> None:
    proxy.faults.append(Fault(kind, match="^GET", argument=argument))
    with pytest.raises(storage.UnavailableError, match=f"{folder}/a") as raised:
        storage.read(f"{folder}/a")
    assert len([name for name in proxy.seen if name.startswith("GET")]) == 3
    assert "\n" not in str(raised.value)


def test_attempts_go_on_until_the_patience_ends(
    folder: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_retries, "_PATIENCE_SECONDS", 0.5)
    proxy.faults.append(Fault("status", match="^GET"))
    started = time.monotonic()
    with pytest.raises(storage.UnavailableError):
        storage.read(f"{folder}/a")
    assert time.monotonic() - started >= 0.5
    assert 3 <= proxy.counts["status"] <= 60


def test_a_store_that_has_never_answered_is_given_up_first(
    faulty_s3: tuple[str, FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name may be wrong; three attempts are made in any case."""
    monkeypatch.setattr(s3_retries, "_FIRST_SECONDS", 0)
    folder, proxy = faulty_s3
    proxy.faults.append(Fault("status", times=5))
    with pytest.raises(storage.UnavailableError):
        storage.exists(folder)
    assert len(proxy.seen) == 3
    proxy.faults.clear()
    assert not storage.exists(folder)  # "there is none" is an answer
    proxy.faults.append(Fault("status", times=5))
    assert not storage.exists(folder)


def test_a_body_that_trickles_for_too_long_is_a_stall(
    folder: str, proxy: FaultProxy, no_patience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single read of it reaches its time limit."""
    monkeypatch.setattr(s3_read, "_PIECE_BYTES", 100)
    monkeypatch.setattr(s3_read, "_PART_SECONDS", 0.3)
    proxy.faults.append(Fault("slow", match="^GET", argument=5000))
    with pytest.raises(storage.UnavailableError, match=r"of 5120 bytes in 0 s"):
        storage.read(f"{folder}/a")
    assert proxy.counts["slow"] == 3


def test_bodies_that_trickle_again_and_again_are_given_up_in_time() -> None:
    """Bodies that trickle again and again last hardly longer than the patience with a store."""
    assert 3 * s3_read._PART_SECONDS <= 1.5 * s3_retries._PATIENCE_SECONDS


def test_a_slow_body_that_arrives_in_time_is_read_once(folder: str, proxy: FaultProxy) -> None:
    proxy.faults.append(Fault("slow", match="^GET", argument=20_000))
    assert storage.read(f"{folder}/a") == CONTENT
    assert proxy.counts["slow"] == 1


def test_a_bit_flipped_on_the_way_down_is_seen_and_the_object_read_again(folder: str, proxy: FaultProxy) -> None:
    proxy.faults.append(Fault("bitflip", match="^GET", times=3))
    assert storage.read(f"{folder}/a") == CONTENT
    assert proxy.counts["bitflip"] == 3


def test_a_bit_flipped_in_a_range_is_not_seen(folder: str, proxy: FaultProxy) -> None:
    """No store sends the checksum of a range: TLS protects it on the way, and the manifest's SHA-256 a whole shard."""
    proxy.faults.append(Fault("bitflip", match="^GET", times=1))
    read = ranged(folder)
    assert len(read) == 3000
    assert sum((a ^ b).bit_count() for a, b in zip(read, CONTENT[-3000:], strict=True)) == 1


def test_a_bit_flipped_on_the_way_up_is_found_where_the_store_does_not_look(
    folder: str, proxy: FaultProxy, no_patience: None
) -> None:
    """The object does not match the checksum sent with it: no reader accepts it, and no writer takes it for its own."""
    proxy.faults.append(Fault("flip_up", match="^PUT", times=1))
    storage.put(f"{folder}/b", CONTENT)
    with pytest.raises(storage.DamagedError, match="b: its bytes do not match the checksum"):
        storage.read(f"{folder}/b")
    with pytest.raises(FileExistsError, match="b exists with other content"):
        storage.put(f"{folder}/b", CONTENT)


@pytest.mark.parametrize("other", [CONTENT[::-1], b"shorter"])
def test_an_object_that_is_replaced_while_it_is_read_is_an_error(
    folder: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, other: bytes
) -> None:
    monkeypatch.setattr(s3_read, "_PART_BYTES", 1000)
    with storage.open_input(f"{folder}/a") as stream:
        assert stream.read(1000) == CONTENT[:1000]
        storage.replace(f"{folder}/a", other)
        with pytest.raises(OSError, match=r"a: (was replaced|InvalidRange)"):
            stream.read()


def test_an_object_that_is_removed_while_it_is_read_is_an_error(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_read, "_PART_BYTES", 1000)
    with storage.open_input(f"{folder}/a") as stream:
        stream.read(1000)
        storage.remove([f"{folder}/a"])
        with pytest.raises(FileNotFoundError, match="a: NoSuchKey"):
            stream.read()


def test_listing_goes_on_where_a_page_was_lost(folder: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "bcdefg":
        storage.put(f"{folder}/{name}", b"")
    whole = s3_client.client().list_objects_v2
    monkeypatch.setattr(s3_client.client(), "list_objects_v2", lambda **request: whole(MaxKeys=2, **request))
    proxy.faults.append(Fault("truncate", match="continuation-token", times=2))
    assert [entry.uri[-1] for entry in storage.list_objects(folder)] == list("abcdefg")
    assert proxy.counts["truncate"] == 2
