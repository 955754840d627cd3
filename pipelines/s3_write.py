"""Writing to S3 and what speaks its protocol: conditional puts, uploads in parts, removal.

Owns what is known of a store's abilities. Refuses to stream results out (a half-written object could be seen) and to
retry by itself: every request goes through `s3_errors.persist`.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

from pipelines.s3_errors import persist
from pipelines.s3_read import S3, client, split, stat

Data = bytes | memoryview
_UPLOAD_PART_BYTES = 64 << 20
"""Objects over this are uploaded in parts, so that a lost connection costs one part."""
_DELETED_AT_ONCE = 1000
_conditional: dict[str, bool] = {}
"""Whether a bucket's store honours `If-None-Match`, where it has been asked."""


def create(uri: str, data: Data) -> bool:
    """Create the object at `uri`; False where one is there already, perhaps by our own attempt whose answer was lost.

    A store that is not known to honour `If-None-Match` is asked first. Between the two another's write could be lost;
    no store that ignores the condition can do better.
    """
    bucket, _ = split(uri)
    if (len(data) > _UPLOAD_PART_BYTES or not _conditional.get(bucket)) and _exists(uri):
        return False
    try:
        _put(uri, data, {"IfNoneMatch": "*"})
    except FileExistsError:
        return False
    except NotImplementedError:
        return replace(uri, data)
    return True


def replace(uri: str, data: Data) -> bool:
    """Write the object at `uri` over what is there; False where our upload is gone, perhaps as it had ended."""
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
    bucket, key = split(uri)
    upload = persist(uri, client().create_multipart_upload, Bucket=bucket, Key=key)["UploadId"]
    target = {"Bucket": bucket, "Key": key, "UploadId": upload}
    try:
        parts = [
            {"PartNumber": number, "ETag": _upload(uri, target | {"PartNumber": number}, view, start)}
            for number, start in enumerate(range(0, len(view), _UPLOAD_PART_BYTES), 1)
        ]
        complete = {**target, "MultipartUpload": {"Parts": parts}, **condition}
        persist(uri, client().complete_multipart_upload, **complete)
    except FileNotFoundError as error:
        if not _exists(uri):
            raise
        # The answer to our completion was lost, or another dropped the upload: who calls will compare.
        raise FileExistsError(uri) from error
    except BaseException:
        with suppress(OSError):
            persist(uri, client().abort_multipart_upload, **target)
        raise


def _upload(uri: str, part: dict[str, Any], view: memoryview, start: int) -> str:
    body = bytes(view[start : start + _UPLOAD_PART_BYTES])
    return persist(uri, client().upload_part, Body=body, **part)["ETag"]


def _exists(uri: str) -> bool:
    try:
        stat(uri)
    except FileNotFoundError:
        return False
    return True


def probe(uri: str) -> bool:
    """Whether the store at `uri` honours `If-None-Match`, tried with an object of that name, which stays.

    Raises:
        OSError: if nothing can be written there.
    """
    bucket, _ = split(uri)
    try:
        for _ in range(2):
            _put(uri, b"written by menagerie to learn what this store can do\n", {"IfNoneMatch": "*"})
        _conditional[bucket] = False
    except FileExistsError:
        _conditional[bucket] = True
    except NotImplementedError:
        _conditional[bucket] = False
    return _conditional[bucket]


def remove(uris: list[str]) -> None:
    """Remove objects; what is not there is fine."""
    for bucket, keys in groupby(sorted(map(split, uris)), itemgetter(0)):
        entries = [{"Key": key} for _, key in keys]
        for start in range(0, len(entries), _DELETED_AT_ONCE):
            _remove(bucket, entries[start : start + _DELETED_AT_ONCE])


def _remove(bucket: str, entries: list[dict[str, str]]) -> None:
    doomed = {"Objects": entries, "Quiet": True}
    answer = persist(f"{S3}{bucket}", client().delete_objects, Bucket=bucket, Delete=doomed)
    for error in answer.get("Errors", ()):
        raise OSError(f"{S3}{bucket}/{error['Key']}: {error['Code']}: not removed")


def abandoned(uri: str, seconds: float) -> list[tuple[str, str]]:
    """URI and upload id of uploads in parts below `uri` that were begun more than `seconds` ago and never ended."""
    bucket, key = split(uri)
    prefix = key.rstrip("/") + "/" if key else ""
    now = time.time()
    return [
        (f"{S3}{bucket}/{upload['Key']}", upload["UploadId"])
        for upload in _uploads(uri, Bucket=bucket, Prefix=prefix)
        if now - upload["Initiated"].timestamp() > seconds
    ]


def _uploads(uri: str, **request: str) -> Iterator[dict[str, Any]]:
    """Page after page; none where some stores say that nothing is found."""
    while request:
        try:
            answer = persist(uri, client().list_multipart_uploads, **request)
        except FileNotFoundError:
            return
        yield from answer.get("Uploads", ())
        markers = {"KeyMarker": answer.get("NextKeyMarker"), "UploadIdMarker": answer.get("NextUploadIdMarker")}
        request = {**request, **markers} if answer.get("IsTruncated") else {}


def abort(uri: str, upload: str) -> None:
    """Drop the parts of an upload that was never ended."""
    bucket, key = split(uri)
    persist(uri, client().abort_multipart_upload, Bucket=bucket, Key=key, UploadId=upload)


def forget() -> None:
    """Forget what is known of stores."""
    _conditional.clear()
