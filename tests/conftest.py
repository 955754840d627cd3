"""Fixtures that start something: an S3 server, a local Ray; each once a session."""

import logging
import os
import tarfile
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

SAMPLE = Path(__file__).parents[2] / "shared" / "imagenet-sample"


@pytest.fixture(scope="session")
def sample_images() -> Path:
    """The folder of 250 real ImageNet images, which is not ours to publish."""
    if not SAMPLE.is_dir():
        pytest.skip("the 250 sample images are not on this machine")
    return SAMPLE


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A bucket on a real S3 server on loopback, as `s3://bucket`; the environment names the server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    boto3.client("s3").create_bucket(Bucket="menagerie-tests")
    yield "s3://menagerie-tests"
    server.stop()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder of each kind of store, as a URI."""
    if request.param == "local":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('s3_server')}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray of two logical CPUs for the whole session: starting it costs seconds."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def jpegs() -> list[bytes]:
    """Forty small pictures, no two alike, the same in every run."""
    random = np.random.default_rng(7)
    encoded = []
    for _ in range(40):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        buffer = BytesIO()
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return encoded


@pytest.fixture
def write_tar() -> Callable[..., bytes]:
    """Writes a tar of (name, content) members, as WebDataset shards are."""

    def write(path: Path, members: list[tuple[str, bytes]]) -> bytes:
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        return buffer.getvalue()

    return write
