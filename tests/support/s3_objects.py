"""Objects for tests of S3, one in two parts, and the content of a folder."""

from pipelines import storage

CONTENT = bytes(range(256)) * 20
PART = 5 << 20
"""The smallest part that S3 accepts."""
LARGE = bytes(range(256)) * (PART // 256) + b"the second part"


def put_in_parts(folder: str) -> None:
    storage.put(f"{folder}/large", LARGE)


def content(folder: str) -> dict[str, bytes]:
    return {entry.uri.removeprefix(f"{folder}/"): storage.read(entry.uri) for entry in storage.list_objects(folder)}
