"""The same commands from and to object storage: the rows and results are those of the local disk."""

import json
import os
import subprocess
import sys
import uuid

import pytest

from pipelines import storage
from pipelines.cells.cell import read_cell
from pipelines.data.dataset import find_dataset
from tests.support.paths import ROOT


def run(job: str, *arguments: str) -> None:
    """A job in a process of its own, since workers take the store's address from the environment they start in."""
    done = subprocess.run([sys.executable, "-m", f"jobs.{job}", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_packing_and_evaluating_in_a_bucket_gives_what_the_local_disk_gives(
    s3_server, rclone_server, at_endpoint, tmp_path, jpegs
) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    for i, jpeg in enumerate(jpegs[:10]):
        (images / f"{i}.jpg").write_bytes(jpeg)
    (images / "labels.csv").write_text("key,label\n" + "".join(f"{i},{i}\n" for i in range(10)))
    rows = []
    for server in (None, os.environ["AWS_ENDPOINT_URL"], rclone_server.url):
        base = f"{s3_server}/{uuid.uuid4().hex}" if server else str(tmp_path / "local")
        at_endpoint(server or os.environ["AWS_ENDPOINT_URL"])
        data, store, results = f"{base}/photos", f"{base}/out", f"{base}/results.json"
        run("pack_shards", "--images", str(images), "--labels", f"{images}/labels.csv", "--output", data)
        flags = ["--models", "efficientnet_lite0", "--data", data, "--store", store, "--tracking-uri", "none"]
        run("evaluate", *flags, "--results-file", results)
        written = [entry.uri for entry in storage.list_objects(f"{store}/cells")]
        assert len(written) == 1
        rows.append((read_cell(written[0], 10).to_pylist(), json.loads(storage.read(results))))
        assert [shard.rows for shard in find_dataset([data]).shards] == [10]
    assert rows[0] == rows[1] == rows[2]
