"""Keys to the store stay where they are: after jobs that ended well and badly, all that they left is searched for them.

On the server that checks keys and signatures and keeps objects as files; the evaluation's acceptance runs on it too.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.data.dataset import find_dataset
from tests.support import faulty_runs
from tests.support.servers import BUCKET, RcloneServer

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray writes its logs; its sockets allow no long names."""
    folder = Path(tempfile.mkdtemp(prefix="mr"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def holding(folder: Path, secrets: list[bytes]) -> list[str]:
    """The files below `folder` in whose name or content a secret stands, and how many were searched."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(s in path.read_bytes() or s in str(path).encode() for s in secrets)]


def test_no_key_is_in_any_log_record_object_or_message(
    rclone_server: RcloneServer, at_endpoint, s3_keys, tmp_path: Path, jpegs, ray_folder: Path
) -> None:
    at_endpoint(rclone_server.url)
    home = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    data, store = faulty_runs.put_shards(f"{home}/val", jpegs, shards=3), f"{home}/out"
    env = {"RAY_ADDRESS": "local", "RAY_TMPDIR": str(ray_folder)}
    tracked = ("--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    code, said = faulty_runs.start(data, store, *tracked, env=env).wait()
    assert code == 0, said
    assert faulty_runs.keys(store) == sorted(str(i) for i in range(15))
    assert [entry for entry in storage.list_objects(f"{store}/mlartifacts") if entry.uri.endswith("summary.json")]
    for wrong in (
        {"data": data.replace(BUCKET, "no-such-bucket")},
        {"data": f"{home}/nothing"},
        {"AWS_SECRET_ACCESS_KEY": s3_keys[1][::-1]},
        {"AWS_ENDPOINT_URL": rclone_server.url.replace("//", f"//{s3_keys[0]}:{s3_keys[1]}@") + "1"},
    ):
        failed = {**env, **{name: value for name, value in wrong.items() if name.isupper()}}
        code, failure = faulty_runs.start(wrong.get("data", data), store, *tracked, env=failed).wait()
        assert code == 2, failure
        assert len(failure.strip().splitlines()) <= 4, failure
        said += failure
    secrets = [s3_keys[0].encode(), s3_keys[1].encode(), s3_keys[1][::-1].encode()]
    assert not any(secret.decode() in said for secret in secrets)
    for folder in (ray_folder, tmp_path, rclone_server.root):
        assert holding(folder, secrets) == []
    assert len(find_dataset([data]).shards) == 3
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == s3_keys[1]
