"""packing: whatever bytes a table, a list, a file of classes or an archive has, they are read or refused."""

import gzip
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.packing import archives, classes, label_table, labelling, uri_list
from pipelines.packing.uri_list import UriList

TABLES = [
    b"key,label\na,1\nb,2\n",
    b"a.jpg 1\nb.jpg 2\n",
    "path\tclass\na\t1\n".encode("utf-16"),
    b'{"file_name":"a","label":1}\n{"file_name":"b","label":2}\n',
    json.dumps({"a": 1, "b": 2}).encode(),
    b"ImageId,PredictionString\na,n01440764 1 2 3 4\n",
    b"s3://b/1.jpg\ns3://b/2.jpg\n",
    b"n01440764 tench, x\nn01443537 goldfish\n",
]
PARTS = [b",", b"\t", b";", b'"', b"\n", b"\r", b"\0", b"\xff", b"-1", b"nan", b"{", b"[", b"label", b"uri", b"http://"]


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("1/a.jpg", "2/b.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 300
            tar.addfile(member, io.BytesIO(bytes(300)))
    return buffer.getvalue()


def _zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in ("1/a.jpg", "2/b.jpg"):
            archive.writestr(name, bytes(300))
    return buffer.getvalue()


ARCHIVES = [_tar(), gzip.compress(_tar()), _zip(zipfile.ZIP_STORED), _zip(zipfile.ZIP_DEFLATED)]


@st.composite
def damaged(draw: st.DrawFn, sound: list[bytes]) -> bytes:
    data = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 12))
        data = data[:start] + draw(st.sampled_from([b"", *PARTS]) | st.binary(max_size=3)) + data[start + removed :]
    return data


def refused_or_read(read: Callable[[], object]) -> None:
    try:
        read()
    except (ValueError, OSError) as error:
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        deliberate = trace is not None and trace.tb_frame.f_globals["__name__"].startswith("pipelines.")
        assert deliberate or not isinstance(error, ValueError), repr(error)


@settings(max_examples=300, deadline=None)
@given(damaged(TABLES))
def test_any_text_is_read_or_refused(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        listed = UriList(uri=file.name)
        refused_or_read(lambda: label_table.parse(data, "t"))
        refused_or_read(lambda: classes.read_classes(file.name))
        refused_or_read(lambda: (uri_list.check(listed), list(uri_list.slices(listed, 2))))


@settings(max_examples=300, deadline=None)
@given(damaged(ARCHIVES))
def test_any_archive_is_read_or_refused(data: bytes) -> None:
    def read_all() -> None:
        with archives.opened(Path(file.name)) as archive:
            for image in archives.list_images(archive, labelling.Given())[0]:
                image.read()

    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        refused_or_read(read_all)
