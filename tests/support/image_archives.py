"""Archives of small pictures for tests of packing, and how packing them ends."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from jobs import pack_shards
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from tests.support.pictures import noise

Files = dict[str, bytes]


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise(24, 20, seed=seed).save(buffer, "JPEG")
    return buffer.getvalue()


def tar_of(files: Files, *links: tuple[str, str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, target, kind in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return buffer.getvalue()


def zip_of(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def unpack(files: Files, folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def packed(images: Path, output: Path, *options: str) -> dict[str, tuple[bytes | None, int | None]]:
    assert pack_shards.main(["--images", str(images), "--output", str(output), *options]) == 0
    samples = [sample for shard in find_dataset([str(output)]).shards for sample in read.samples(shard)]
    return {sample.key: (sample.image, sample.label) for sample in samples}


def refused(images: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert pack_shards.main(["--images", str(images), "--output", f"{images}.out", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line
