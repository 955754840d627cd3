"""Writing to S3 and stores that speak its protocol: conditional puts, uploads in parts, removal.

Whether a store honours conditional puts is found out once per bucket. Results are never streamed out, since a
half-written object could be seen. Nothing is retried here: every request goes through `s3_retries.persist`.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

from pipelines.storage.s3_client import S3, Answer, client
from pipelines.storage.s3_errors import TRANSIENT_CODES, ConflictError, UnsupportedError
from pipelines.storage.s3_read import split, stat
from pipelines.storage.s3_retries import persist, without_waiting_for_conflicts

Data = bytes | memoryview
_UPLOAD_PART_BYTES = 64 << 20
"""Larger objects are uploaded in parts, so that a lost connection costs one part."""
_DELETED_AT_ONCE = 1000
_PROBE = b"written by menagerie to learn what this store can do\n"
_conditional: dict[str, bool] = {}
"""Whether the store of a bucket honours `If-None-Match`, for the buckets that were probed."""


def create(uri: str, data: Data) -> bool:
    """Create the object at `uri`; False if there is one already.

    It may be that of an earlier attempt of this call whose answer was lost.

    A store that is not known to honour `If-None-Match` is first asked whether the object exists. Another write between
    the two requests could be lost; a store that ignores the condition allows nothing better.
    """
    bucket, _ = split(uri)
    if (len(data) > _UPLOAD_PART_BYTES or not _conditional.get(bucket)) and _exists(uri):
        return False
    try:
        _put(uri, data, {"IfNoneMatch": "*"})
    except FileExistsError:
        return False
    except UnsupportedError:
        return replace(uri, data)
    return True


def replace(uri: str, data: Data) -> bool:
    """Write the object at `uri` in place of what is there; False if our upload is gone, perhaps complete."""
    try:
        _put(uri, data, {})
    except FileExistsError:
        return False
    return True


def _put(uri: str, data: Data, condition: dict[str, str]) -> None:
    view = memoryview(data)
    if len(view) > _UPLOAD_PART_BYTES:
        _put_in_parts(uri, view, condition)
        return
    bucket, key = split(uri)
    body = bytes(view)
    persist(uri, client().put_object, Bucket=bucket, Key=key, Body=body, **condition)


def _put_in_parts(uri: str, view: memoryview, condition: dict[str, str]) -> None:
    try:
        _upload(uri, view, condition)
    except ConflictError as error:
        if condition and _exists(uri):
            raise FileExistsError(uri) from error
        _upload(uri, view, condition)


def _upload(uri: str, view: memoryview, condition: dict[str, str]) -> None:
    bucket, key = split(uri)
    upload = persist(uri, client().create_multipart_upload, Bucket=bucket, Key=key, **_checksums())["UploadId"]
    target = {"Bucket": bucket, "Key": key, "UploadId": upload}
    try:
        parts = [
            _upload_part(uri, target | {"PartNumber": number}, view, start)
            for number, start in enumerate(range(0, len(view), _UPLOAD_PART_BYTES), 1)
        ]
        persist(uri, _complete, **target, MultipartUpload={"Parts": parts}, **condition)
    except FileNotFoundError as error:
        if not _exists(uri):
            raise
        # The answer to our completion was lost, or another job aborted the upload: the caller compares the bytes.
        raise FileExistsError(uri) from error
    except BaseException:
        with suppress(OSError):
            persist(uri, client().abort_multipart_upload, **target)
        raise


def _checksums() -> dict[str, str]:
    """The parameter with which a store keeps checksums of parts; none if the SDK's settings turn checksums off."""
    computed = client().meta.config.request_checksum_calculation == "when_supported"
    return {"ChecksumAlgorithm": "CRC32"} if computed else {}


def _upload_part(uri: str, part: dict[str, Any], view: memoryview, start: int) -> dict[str, Any]:
    """Upload a part; what the completion must name of it: number, ETag and, if the store has compared one, checksum."""
    body = bytes(view[start : start + _UPLOAD_PART_BYTES])
    answer = persist(uri, client().upload_part, Body=body, **part)
    digests = {name: answer[name] for name in ("ETag", "ChecksumCRC32") if name in answer}
    return {"PartNumber": part["PartNumber"], **digests}


def _complete(**request: Any) -> None:
    """Complete an upload. A conflict ends the upload itself, so another attempt could only find that it is gone."""
    with without_waiting_for_conflicts(f"{S3}{request['Bucket']}/{request['Key']}"):
        client().complete_multipart_upload(**request)


def _exists(uri: str) -> bool:
    try:
        stat(uri)
    except FileNotFoundError:
        return False
    return True


def probe(uri: str) -> bool:
    """Whether the store at `uri` honours `If-None-Match`: tried by writing an object at `uri`, which stays.

    Raises:
        OSError: if nothing can be written there.
    """
    bucket, _ = split(uri)
    try:
        for _ in range(2):
            _put(uri, _PROBE, {"IfNoneMatch": "*"})
        _conditional[bucket] = False
    except FileExistsError:
        _conditional[bucket] = True
    except UnsupportedError:
        _put(uri, _PROBE, {})  # raises if the store supports no writing at all
        _conditional[bucket] = False
    return _conditional[bucket]


def remove(uris: list[str]) -> None:
    """Remove the objects at `uris`, as far as they exist."""
    for bucket, keys in groupby(sorted(map(split, uris)), itemgetter(0)):
        entries = [{"Key": key} for _, key in keys]
        for start in range(0, len(entries), _DELETED_AT_ONCE):
            _remove(bucket, entries[start : start + _DELETED_AT_ONCE])


def _remove(bucket: str, entries: list[dict[str, str]]) -> None:
    """Remove one batch. The answer has an error for each key that failed; only transient ones are tried again."""
    remaining = entries

    def delete() -> None:
        nonlocal remaining
        batch = {"Objects": remaining, "Quiet": True}
        errors = client().delete_objects(Bucket=bucket, Delete=batch).get("Errors", ())
        for error in errors:
            if error["Code"] not in TRANSIENT_CODES:
                raise OSError(f"{S3}{bucket}/{error['Key']}: {error['Code']}: not removed")
        remaining = [{"Key": error["Key"]} for error in errors]
        if errors:
            raise ConnectionError(f"{errors[0]['Key']}: {errors[0]['Code']}: not removed")

    persist(f"{S3}{bucket}", delete)


def abandoned(uri: str, seconds: float) -> list[tuple[str, str]]:
    """URI and upload id of uploads in parts below `uri` that began more than `seconds` ago and never ended."""
    bucket, key = split(uri)
    prefix = key.rstrip("/") + "/" if key else ""
    now = time.time()
    return [
        (f"{S3}{bucket}/{upload['Key']}", upload["UploadId"])
        for upload in _uploads(uri, Bucket=bucket, Prefix=prefix)
        if now - upload["Initiated"].timestamp() > seconds
    ]


def _uploads(uri: str, **request: str | None) -> Iterator[Answer]:
    """Uploads in progress, page by page; none if the store answers that it found nothing or cannot list them."""
    while request:
        try:
            answer = persist(uri, client().list_multipart_uploads, **request)
        except (FileNotFoundError, UnsupportedError):
            return
        yield from answer.get("Uploads", ())
        following = {"KeyMarker": answer.get("NextKeyMarker"), "UploadIdMarker": answer.get("NextUploadIdMarker")}
        request = {**request, **following} if answer.get("IsTruncated") else {}


def abort(uri: str, upload: str) -> None:
    """Drop the parts of an unfinished upload."""
    bucket, key = split(uri)
    persist(uri, client().abort_multipart_upload, Bucket=bucket, Key=key, UploadId=upload)


def forget() -> None:
    """Forget which stores honour conditions, for when the environment names another."""
    _conditional.clear()
