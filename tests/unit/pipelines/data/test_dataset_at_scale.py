"""Covers pipelines.data.dataset and listing with very many shards: requests, progress, names that are too long."""

import threading
import time
from pathlib import Path

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from pipelines import storage
from pipelines.cells.cell import cell_uri
from pipelines.cells.plan import plan_cells
from pipelines.data.dataset import find_dataset
from pipelines.storage import s3_read
from tests.support.cell_rows import COLUMN
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy

MANY = 5_000
LISTING = "list-type=2"


def put_at_once(folder: str, names: list[str]) -> None:
    """Objects of one byte behind the server's back: five thousand requests would take half a minute."""
    bucket, prefix = s3_read.split(folder)
    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for name in names:
        store.put_object(bucket, f"{prefix}/{name}", b"x")


def numbered(count: int) -> list[str]:
    return [f"{number:05d}.tar" for number in range(count)]


def braces(folder: str, count: int) -> str:
    return f"{folder}/{{00000..{count - 1:05d}}}.tar"


@pytest.fixture
def thirty(store: str) -> str:
    """A folder of 30 shards in each kind of store."""
    for name in numbered(30):
        storage.put(f"{store}/val/{name}", name.encode())
    return f"{store}/val"


def test_planning_many_shards_costs_a_request_for_a_thousand(faulty_s3: tuple[str, FaultProxy]) -> None:
    folder, proxy = faulty_s3
    put_at_once(f"{folder}/val", numbered(MANY))
    for source in (f"{folder}/val", braces(f"{folder}/val", MANY)):
        proxy.seen.clear()
        dataset = find_dataset([source])
        assert len(dataset.shards) == MANY
        assert len([request for request in proxy.seen if LISTING in request]) == MANY // 1000
        assert len(proxy.seen) == MANY // 1000 + 2  # is there a manifest, was packing interrupted
    done = [cell_uri(folder, dataset, COLUMN, shard).removeprefix(f"{folder}/") for shard in dataset.shards]
    put_at_once(folder, done[1:])
    proxy.seen.clear()
    assert plan_cells(folder, dataset, [COLUMN]).missing == ((0,),)
    assert len(proxy.seen) == MANY // 1000


@pytest.mark.parametrize("count", [1, 19, 20, 30])
def test_shards_are_the_same_whether_named_or_listed(thirty: str, count: int) -> None:
    assert find_dataset([braces(thirty, count)]).shards == find_dataset([thirty]).shards[:count]


def test_shards_named_one_by_one_keep_the_order_of_their_sources(thirty: str, store: str) -> None:
    backwards = [f"{thirty}/{name}" for name in reversed(numbered(25))]
    storage.put(f"{store}/list.txt", "\n".join(backwards).encode())
    found = find_dataset([f"{thirty}/00029.tar", f"{store}/list.txt", f"{thirty}/0002[5-7].tar"])
    expected = [29, *reversed(range(25)), 25, 26, 27]
    assert [shard.uri for shard in found.shards] == [f"{thirty}/{number:05d}.tar" for number in expected]


def test_a_few_shards_are_asked_for_one_by_one(faulty_s3: tuple[str, FaultProxy]) -> None:
    folder, proxy = faulty_s3
    put_at_once(folder, numbered(30))
    find_dataset([braces(folder, 19)])
    assert not [request for request in proxy.seen if LISTING in request]


def test_each_folder_is_listed_once_for_the_shards_named_in_it(faulty_s3: tuple[str, FaultProxy]) -> None:
    folder, proxy = faulty_s3
    for part in ("a", "b"):
        put_at_once(f"{folder}/{part}", numbered(30))
    find_dataset([f"{folder}/{{a,b}}/000{number}.tar" for number in range(10, 30)])
    assert len([request for request in proxy.seen if LISTING in request]) == 2


@pytest.mark.parametrize(("prefix", "pages"), [("a", 1), ("x", 2)])
def test_a_folder_of_much_else_is_not_listed_to_its_end(
    faulty_s3: tuple[str, FaultProxy], prefix: str, pages: int
) -> None:
    folder, proxy = faulty_s3
    put_at_once(folder, [f"cells/{name}" for name in numbered(3000)])
    put_at_once(folder, [f"{prefix}{name}" for name in numbered(20)])
    assert len(find_dataset([f"{folder}/{prefix}{{00000..00019}}.tar"]).shards) == 20
    assert len([request for request in proxy.seen if LISTING in request]) == pages


def test_missing_shards_are_counted_and_the_first_are_named(thirty: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"^\S+/00030\.tar, \S+/00031\.tar: no such file$"):
        find_dataset([braces(thirty, 32)])
    with pytest.raises(FileNotFoundError, match=r"^\S+/00030\.tar, \S+31\.tar, \S+32\.tar and 67 more: no such file$"):
        find_dataset([braces(thirty, 100)])
    with pytest.raises(FileNotFoundError, match=r"^\S+/00059\.tar, .* and 27 more: no such file$"):
        find_dataset([f"{thirty}/{{00059..00000}}.tar"])


def test_what_a_listing_lacks_is_asked_for_a_limited_number_of_times(faulty_s3: tuple[str, FaultProxy]) -> None:
    folder, proxy = faulty_s3
    put_at_once(folder, numbered(30))
    with pytest.raises(FileNotFoundError, match="and 9967 more: no such file"):
        find_dataset([braces(folder, 10_000)])
    assert len(proxy.seen) == 1 + 20


def test_a_shard_that_comes_while_its_folder_is_listed_is_found(faulty_s3: tuple[str, FaultProxy]) -> None:
    folder, proxy = faulty_s3
    put_at_once(folder, numbered(25))
    arrival = Fault("after", LISTING, times=1, call=lambda: put_at_once(folder, numbered(60)[25:]))
    proxy.faults.append(arrival)
    assert [shard.name for shard in find_dataset([braces(folder, 60)]).shards] == [
        f"{number:05d}" for number in range(60)
    ]
    assert proxy.counts == {"after": 1}


def test_who_may_read_shards_and_not_list_them_names_them(
    faulty_s3: tuple[str, FaultProxy], caplog: pytest.LogCaptureFixture
) -> None:
    """AWS then refuses a listing, and says the same of what is not there."""
    folder, proxy = faulty_s3
    put_at_once(folder, numbered(30))
    proxy.faults.append(Fault("status", rf"{LISTING}|json|/0003\d", argument=403))
    assert [shard.name for shard in find_dataset([braces(folder, 30)]).shards] == [
        f"{number:05d}" for number in range(30)
    ]
    assert ["requested one by one" in said or "treated as absent" in said for said in caplog.messages] == [True, True]
    with pytest.raises(PermissionError, match=r"/0003\d\.tar: 403"):
        find_dataset([braces(folder, 32)])


def test_shards_in_many_folders_are_asked_for_at_once_and_keep_their_order(
    faulty_s3: tuple[str, FaultProxy],
) -> None:
    folder, proxy = faulty_s3
    put_at_once(folder, [f"{number:02d}/a.tar" for number in range(40)])
    lock, counts = threading.Lock(), [0]

    def take_long() -> None:
        with lock:
            counts.append(counts[-1] + 1)
        time.sleep(0.1)
        with lock:
            counts.append(counts[-1] - 1)

    proxy.faults.append(Fault("before", r"^HEAD .*\.tar", call=take_long))
    names = [shard.name for shard in find_dataset([f"{folder}/{{39..00}}/a.tar"]).shards]
    assert names == [f"{number:02d}/a" for number in reversed(range(40))]
    assert 10 < max(counts) <= 32


def test_a_bucket_that_is_not_there_is_no_empty_folder(s3_server: str) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-bucket"):
        find_dataset([braces("s3://no-such-bucket/val", 30)])


def test_who_waits_is_told_of_every_thousand_objects(tmp_path: Path) -> None:
    for name in (*numbered(2500), *(f"{number}.txt" for number in range(700))):
        (tmp_path / name).touch()
    names = "\n".join(f"{tmp_path}/{name}" for name in numbered(2000))
    (tmp_path / "list.txt").write_text(names)
    assert told(f"{tmp_path}") == [1000, 2000, 3000]
    assert told(f"{tmp_path}/list.txt") == [1000, 2000]
    assert told(f"{tmp_path}/list.txt", f"{tmp_path}/*24??.tar") == [1000, 2000, 3000, 4000, 5000]


def told(*sources: str) -> list[int]:
    counts: list[int] = []
    find_dataset(sources, watch=counts.append)
    return counts


def test_who_gives_up_waiting_ends_the_listing(tmp_path: Path) -> None:
    for name in numbered(1000):
        (tmp_path / name).touch()

    def give_up(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_dataset([str(tmp_path)], watch=give_up)


@pytest.mark.parametrize("name", ["a" * 238, "é" * 119, "d" * 255 + "/" + "a" * 238])
def test_the_longest_name_that_is_taken_makes_a_cell_that_a_disk_takes(tmp_path: Path, name: str) -> None:
    storage.put(f"{tmp_path}/val/{name}.tar", b"x")
    storage.put(f"{tmp_path}/val/b.tar", b"x")
    dataset = find_dataset([f"{tmp_path}/val"])
    for shard in dataset.shards:
        storage.put(cell_uri(str(tmp_path), dataset, COLUMN, shard), b"")
    assert plan_cells(str(tmp_path), dataset, [COLUMN]).pending == 0


@pytest.mark.parametrize("name", ["a" * 239, "é" * 119 + "a", "x/" + "a" * 239])
def test_a_name_one_byte_longer_is_refused_before_anything_is_computed(tmp_path: Path, name: str) -> None:
    storage.put(f"{tmp_path}/val/{name}.tar", b"x")
    storage.put(f"{tmp_path}/val/b.tar", b"x")
    with pytest.raises(ValueError, match=f"shard '{name}': its name is too long: .* above 255 bytes"):
        find_dataset([f"{tmp_path}/val"])


def test_a_folder_that_no_disk_could_have_is_refused_too(s3_server: str, tmp_path: Path) -> None:
    for name in ("a", "d" * 256):
        storage.put(f"{s3_server}/{tmp_path.name}/{name}/1.tar", b"x")
    with pytest.raises(ValueError, match=r"shard 'd{256}/1': its name is too long"):
        find_dataset([f"{s3_server}/{tmp_path.name}"])
