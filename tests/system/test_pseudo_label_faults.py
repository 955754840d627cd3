"""Drivers killed in every phase from a list of objects to shards to train on, one after the other.

Each job is killed at one storage operation after another, goes on where it was, and ends in the bytes of a calm run;
the images are those of the source, by digest and count. The store is a real S3 server behind a proxy that kills.
"""

import csv
import io
import uuid
from collections import Counter
from dataclasses import dataclass

import pytest

from pipelines import storage
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.selection.files import read_selection
from tests.support import faulty_runs
from tests.support.fault import Fault
from tests.support.fault_proxy import FaultProxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OBJECTS = 40
AGAIN = 5
"""Objects whose images others have too."""


@dataclass(frozen=True)
class Place:
    """A cluster, the store that it reaches through `network`, and a folder of its own in it."""

    address: str
    network: FaultProxy
    base: str

    def run(self, job: str, *options: str) -> str:
        """Run a job to its good end; returns what it said."""
        code, said = faulty_runs.begin(job, *options, env={"RAY_ADDRESS": self.address}).wait()
        assert code == 0, said
        return said

    def tear(self, kills: list[tuple[str, str]], job: str, *options: str) -> None:
        """Kill the job before or after each of these requests, once a run, and then let it run to its end."""
        for kind, match in kills:
            driver = faulty_runs.begin(job, *options, env={"RAY_ADDRESS": self.address})
            self.network.faults[:] = [Fault(kind, match=match, times=1, call=driver.process.kill)]
            code, said = driver.wait()
            assert code == -9, f"{match} was never asked for: {said}"
            self.network.faults.clear()
        self.run(job, *options)

    def content(self, folder: str) -> dict[str, bytes]:
        """What lies in a folder of the base, by name in it."""
        there = storage.list_objects(f"{self.base}/{folder}")
        return {entry.uri.removeprefix(f"{self.base}/{folder}"): storage.read(entry.uri) for entry in there}


@pytest.fixture(scope="module")
def place(s3_server: str, network: FaultProxy, address: str, jpegs: list[bytes]) -> Place:
    """With a list of objects: some have an image that another has, one is not there."""
    base = f"{s3_server}/{uuid.uuid4().hex}"
    text = io.StringIO()
    listed = csv.writer(text)
    listed.writerow(["uri", "label"])
    for i in range(OBJECTS + AGAIN):
        storage.put(f"{base}/objects/{i}.jpg", jpegs[i % OBJECTS])
        listed.writerow([f"{base}/objects/{i}.jpg", i % OBJECTS])
    listed.writerow([f"{base}/objects/gone.jpg", 0])
    storage.put(f"{base}/list.csv", text.getvalue().encode())
    return Place(address, network, base)


@pytest.fixture(scope="module")
def pool(place: Place) -> str:
    """The objects in shards of one image."""
    place.run("pack_shards", *packing(place, "calm.pool"))
    return f"{place.base}/calm.pool"


@pytest.fixture(scope="module")
def teacher(place: Place, pool: str) -> list[str]:
    """The options that name it and its cells, which are committed."""
    options = ["--models", faulty_runs.MODEL, "--data", pool, "--batch-size", "1"]
    place.run("pseudo_label", *options, "--store", f"{place.base}/calm")
    return options


@pytest.fixture(scope="module")
def chosen(place: Place, teacher: list[str]) -> str:
    """A selection."""
    place.run("select_topk", *selecting(place, teacher, "calm.chosen"))
    return f"{place.base}/calm.chosen"


def packing(place: Place, output: str) -> list[str]:
    options = ["--keys", f"{place.base}/list.csv", "--dedup", "--samples-per-shard", "1"]
    return [*options, "--output", f"{place.base}/{output}"]


def selecting(place: Place, teacher: list[str], output: str) -> list[str]:
    options = [*teacher, "--store", f"{place.base}/calm", "--k", "3", "--tracking-uri", "none"]
    return [*options, "--output", f"{place.base}/{output}"]


def making(place: Place, chosen: str, output: str) -> list[str]:
    options = ["--selection", chosen, "--samples-per-shard", "20", "--tracking-uri", "none"]
    return [*options, "--output", f"{place.base}/{output}"]


def samples(folder: str) -> list[read.Sample]:
    return [sample for shard in find_dataset([folder]).shards for sample in read.samples(shard)]


def test_packing(place: Place, pool: str, jpegs: list[bytes]) -> None:
    kills = [
        ("before", "PUT .*torn.pool/collected.json"),
        ("after", "PUT .*torn.pool/digests/000007.note"),
        ("before", "PUT .*torn.pool/000003.tar"),
        ("after", "PUT .*torn.pool/000020.tar"),
        ("after", "PUT .*torn.pool/notes/000030.note"),
        ("before", "PUT .*torn.pool/manifest.json"),
        ("before", "PUT .*torn.pool/unread.csv"),
    ]
    place.tear(kills, "pack_shards", *packing(place, "torn.pool"))
    assert place.content("torn.pool") == place.content("calm.pool")
    assert Counter(sample.image for sample in samples(pool)) == Counter(jpegs)


def test_scoring(place: Place, teacher: list[str]) -> None:
    kills = [
        ("after", "PUT .*/torn/cells/"),
        ("before", "PUT .*/torn/cells/.*000033"),
        ("after", "PUT .*/torn/runs/"),
    ]
    place.tear(kills, "pseudo_label", *teacher, "--store", f"{place.base}/torn")
    assert place.content("torn/cells") == place.content("calm/cells")


def test_selecting(place: Place, teacher: list[str], chosen: str) -> None:
    kills = [
        ("before", "PUT .*torn.chosen/parts/"),  # the other group's task may still end
        ("after", "PUT .*torn.chosen/selection.parquet"),
        ("before", "PUT .*torn.chosen/selection.json"),
        ("before", "POST .*delete"),
        ("before", "PUT .*torn.chosen/scores.png"),
    ]
    place.tear(kills, "select_topk", *selecting(place, teacher, "torn.chosen"))
    assert place.content("torn.chosen") == place.content("calm.chosen")


def test_materialising(place: Place, chosen: str) -> None:
    place.run("materialize", *making(place, chosen, "calm.shards"))
    kills = [
        ("after", "PUT .*torn.shards/materialized.json"),
        ("before", "GET .*calm.pool/000011.tar"),
        ("after", "PUT .*torn.shards/000002.tar"),
        ("before", "PUT .*torn.shards/notes/"),
        ("before", "PUT .*torn.shards/manifest.json"),
        ("after", "PUT .*torn.shards/sheets/"),
    ]
    place.tear(kills, "materialize", *making(place, chosen, "torn.shards"))
    assert place.content("torn.shards") == place.content("calm.shards")
    made, found = samples(f"{place.base}/torn.shards"), read_selection(chosen)
    assert found and len({sample.key for sample in made}) == len(made)
    pooled = [list(read.samples(shard)) for shard in found.pool.shards]
    expected = Counter((row["label"], pooled[row["shard"]][row["index"]].image) for row in found.chosen.to_pylist())
    assert Counter((sample.label, sample.image) for sample in made) == expected
