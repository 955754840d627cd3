"""Selecting from cells of growing pools, beside DuckDB's window function on the same files: `make benchmark`.

Asserts no times. Cells are synthetic: random classes and scores, as many of each class. Memory is what processes have
for themselves, the most at any moment: of the driver and all of Ray's workers together, beside DuckDB's one process.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

import zoo
from pipelines import storage
from pipelines.cells.cell import publish_cell
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, plan_cells
from pipelines.cluster import connection, tasks
from pipelines.records import Dataset, Shard, cell_schema
from pipelines.selection import distributed
from pipelines.selection.candidates import Rule
from zoo.weights import wanted

CLASSES, TOP, K, ROWS = 1000, 5, 4000, 50_000
CANDIDATES = (10_000_000, 40_000_000, 160_000_000, 640_000_000)
BESIDE_DUCKDB = 40_000_000
CARD = zoo.card("efficientnet_lite0")
COLUMN = Column(card=CARD, file=wanted.published(CARD), max_classes_kept=TOP)
QUERY = """
import duckdb, sys, time
started = time.perf_counter()
found = duckdb.connect(config={{"threads": {threads}}}).execute('''
    SELECT count(*), sum(prob) FROM (
        SELECT class, prob, row_number() OVER (PARTITION BY class ORDER BY prob DESC, hash(filename, "index")) AS rank
        FROM (SELECT unnest(classes) AS class, unnest(probs) AS prob, "index", filename
              FROM read_parquet('{files}', filename = true) WHERE error IS NULL))
    WHERE rank <= {k}''').fetchone()
print(time.perf_counter() - started, *found)
"""


@pytest.mark.benchmark_run
@pytest.mark.timeout(3600)
def test_selection_from_growing_pools_beside_duckdb(tmp_path: Path, capsys) -> None:
    lines = [f"{CLASSES} classes, P = {TOP}, K = {K}, {psutil.cpu_count()} cores"]
    connection.connect()
    for candidates in CANDIDATES:
        plan = filled(str(tmp_path), candidates // TOP // ROWS)
        chosen, told = ours(str(tmp_path), plan)
        lines.append(told)
        if candidates == BESIDE_DUCKDB:
            lines += [theirs(str(tmp_path), plan, chosen, threads) for threads in (1, psutil.cpu_count() or 1)]
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def ours(store: str, plan: Plan) -> tuple[tuple[int, float], str]:
    """How many are chosen and the sum of their scores, and what it took."""
    chosen, seconds, memory = watched(lambda: select(store, plan), psutil.Process().pid)
    read = sum(entry.size for entry in storage.list_objects(f"{store}/cells"))  # every cell once
    return chosen, f"{line('selecting', plan, seconds, memory)}, {read / 1e9:.2f} GB read"


def theirs(store: str, plan: Plan, chosen: tuple[int, float], threads: int) -> str:
    """What it took DuckDB to find the same."""
    (count, total, seconds), memory = duckdb(f"{store}/cells/pool/{COLUMN.name}", threads)
    assert count == chosen[0]
    assert total == pytest.approx(chosen[1], rel=1e-6)
    return line(f"DuckDB, {threads} threads", plan, seconds, memory)


def line(what: str, plan: Plan, seconds: float, memory: int) -> str:
    candidates = plan.needed * ROWS * TOP
    rate = f"{candidates / seconds / 1e6:6.2f} M candidates/s, {plan.needed * ROWS / seconds / 1e6:5.2f} M images/s"
    return f"{candidates / 1e6:5.0f} M candidates: {what:18} {seconds:6.1f} s, {rate}, {memory / 1e9:5.2f} GB"


def filled(store: str, shards: int) -> Plan:
    """A plan whose cells are all there; those of a smaller pool before stay."""
    found = [Shard(name=f"{i:05d}", uri=f"x/{i:05d}.tar", size=1, etag="e", rows=ROWS) for i in range(shards)]
    dataset = Dataset(name="pool", source="x", shards=tuple(found))
    missing = plan_cells(store, dataset, [COLUMN]).missing[0]
    for _ in tasks.run(publish, ((None, (store, dataset.shards[position], position)) for position in missing)):
        pass
    return plan_cells(store, dataset, [COLUMN])


def publish(store: str, shard: Shard, seed: int) -> None:
    publish_cell(store, Dataset(name="pool", source="x", shards=()), COLUMN, shard, random_cell(seed))


def random_cell(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, CLASSES, ROWS)
    classes = (first[:, None] + np.arange(TOP) * rng.integers(1, CLASSES // TOP, ROWS)[:, None]) % CLASSES
    probs = -np.sort(-rng.dirichlet(np.full(TOP + 1, 0.4), ROWS).astype(np.float32)[:, :TOP], axis=1)
    columns = {
        "index": np.arange(ROWS, dtype=np.int32),
        "key": [f"{seed:06d}{i:06d}" for i in range(ROWS)],
        "label": pa.nulls(ROWS, pa.int32()),
        "classes": lists(classes.astype(np.int16)),
        "probs": lists(probs),
        "label_prob": pa.nulls(ROWS, pa.float32()),
        "sq_prob": rng.random(ROWS, np.float32),
        "logsumexp": rng.random(ROWS, np.float32),
        "digest": rng.integers(0, 1 << 63, ROWS, np.uint64),
        "error": pa.nulls(ROWS, pa.string()),
        "offset": pa.nulls(ROWS, pa.int64()),
    }
    return pa.table(columns, schema=cell_schema(TOP))


def lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), TOP)


def select(store: str, plan: Plan) -> tuple[int, float]:
    parts = f"{store}/parts-{plan.needed}"
    best = distributed.select(store, plan, Rule(k=K), parts, lambda _: None).best
    return len(best), float(best.score.astype(np.float64).sum())


def watched(work: Callable[[], tuple], root: int) -> tuple[tuple, float, int]:
    """What `work` gives, the seconds that it takes, and the most memory of the processes below `root` meanwhile."""
    most, done = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(root, most, done))
    watcher.start()
    started = time.perf_counter()
    try:
        return work(), time.perf_counter() - started, most[0]
    finally:
        done.set()
        watcher.join()


def watch(root: int, most: list[int], done: threading.Event) -> None:
    while not done.wait(0.3):
        most[0] = max(most[0], sum(held_by(process) for process in family(root)))


def family(root: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):  # it may have ended since
        return [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return []


def held_by(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.memory_full_info().uss
    return 0


def duckdb(folder: str, threads: int) -> tuple[tuple[int, float, float], int]:
    program = QUERY.format(threads=threads, files=f"{folder}/*.parquet", k=K)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    (said,), _, memory = watched(lambda: (child.communicate()[0],), child.pid)
    seconds, count, total = said.splitlines()[-1].split()  # a progress bar comes first
    return (int(count), float(total), float(seconds)), memory
