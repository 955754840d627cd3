"""How the walk scales with GPUs, by simulation: actors that take a GPU's slot and sleep in the place of a model.

The walk is the real one, on a cluster of a head without work and four nodes; pictures are small, since two cores decode
for sixteen GPUs. What a GPU takes for a chunk is known, so that whatever is lost is the walk's own: efficiency is
the time that the sleeping alone takes over the time that it took, from the moment on at which there have been two
chunks for each GPU, since processes start slowly here. Ray hands a chunk on when the next is there, which for one GPU
makes one chunk in six too few, and for sixteen nothing. Asserts no times.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import ray

import zoo
from pipelines.cells.column import Column
from pipelines.cluster.shares import share
from pipelines.data.dataset import find_dataset
from pipelines.walk import dataflow
from pipelines.walk.passes import PassConfig
from tests.support import faulty_runs
from zoo.weights import wanted

MODEL, BATCH, SECONDS, EACH = "efficientnet_lite0", 16, 5.0, 8
NODES, CPUS, GPUS = 4, 8, (1, 2, 4, 8, 16)
FIRST = 2


@pytest.mark.benchmark_run
@pytest.mark.timeout(1200)
def test_efficiency_on_one_to_sixteen_simulated_gpus(jpegs: list[bytes], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(faulty_runs, "IMAGES", BATCH)
    data = faulty_runs.put_shards(str(tmp_path / "val"), jpegs, max(GPUS) * EACH)
    card = zoo.card(MODEL)
    column = Column(card=card, file=wanted.published(card))
    config = PassConfig(columns=(column,), views=(column.view,), chunk=BATCH, device="cuda", memory=None)
    found = find_dataset([data]).shards
    site = faulty_runs.new_cluster(0)
    for _ in range(NODES):
        site.add_node(num_cpus=CPUS, num_gpus=max(GPUS) // NODES)
    lines = ["", f"a GPU takes {SECONDS:g} s for {BATCH} images, {EACH} times"]
    with ray.init(site.address, log_to_driver=False):
        for gpus in GPUS:
            part = found[: gpus * EACH]
            shares = share(NODES * CPUS, gpus, "cuda")
            pixels = dataflow.pixels(part, range(len(part)), BATCH, config.views, shares)
            scored = dataflow.score(pixels, sleeper(SECONDS), config, shares, gpus)
            ends = [time.monotonic() for _ in scored.iter_batches(batch_size=None, batch_format="pyarrow")]
            took, least = ends[-1] - ends[FIRST * gpus - 1], (EACH - FIRST) * SECONDS
            lines += [f"{gpus:2} GPUs: {took:5.1f} s for {least:g} s, efficiency {least / took:.3f}"]
    site.shutdown()
    with capsys.disabled():
        print("\n".join(lines))


def sleeper(seconds: float) -> type:
    """Made in a function, so that it travels: workers know no module of tests."""

    class Sleeper:
        def __init__(self, _: object) -> None:
            pass

        def __call__(self, decoded: pa.Table) -> Iterator[pa.Table]:
            time.sleep(seconds)
            yield pa.table({"images": [len(decoded["keys"][0])]})

    return Sleeper
