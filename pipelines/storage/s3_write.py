"""Writing to S3 and what speaks its protocol: conditional puts, uploads in parts, removal.

Owns what is known of a store's abilities. Refuses to stream results out (a half-written object could be seen) and to
retry by itself: every request goes through `s3_retries.persist`.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

from pipelines.storage.s3_errors import TRANSIENT_CODES, ConflictError, UnsupportedError
from pipelines.storage.s3_read import S3, client, split, stat
from pipelines.storage.s3_retries import conflicts_end, persist

Data = bytes | memoryview
_UPLOAD_PART_BYTES = 64 << 20
"""Objects over this are uploaded in parts, so that a lost connection costs one part."""
_DELETED_AT_ONCE = 1000
_PROBE = b"written by menagerie to learn what this store can do\n"
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
    except UnsupportedError:
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
        # The answer to our completion was lost, or another dropped the upload: who calls will compare.
        raise FileExistsError(uri) from error
    except BaseException:
        with suppress(OSError):
            persist(uri, client().abort_multipart_upload, **target)
        raise


def _checksums() -> dict[str, str]:
    """What makes the store keep the checksums of parts, which the SDK computes unless its settings say otherwise."""
    computed = client().meta.config.request_checksum_calculation == "when_supported"
    return {"ChecksumAlgorithm": "CRC32"} if computed else {}


def _upload_part(uri: str, part: dict[str, Any], view: memoryview, start: int) -> dict[str, Any]:
    """What the completion has to say of the part: also its checksum, where the store has compared one."""
    body = bytes(view[start : start + _UPLOAD_PART_BYTES])
    answer = persist(uri, client().upload_part, Body=body, **part)
    said = {name: answer[name] for name in ("ETag", "ChecksumCRC32") if name in answer}
    return {"PartNumber": part["PartNumber"], **said}


def _complete(**request: Any) -> None:
    """A conflict ends the upload itself, so that waiting and asking again would only find that it is gone."""
    with conflicts_end(f"{S3}{request['Bucket']}/{request['Key']}"):
        client().complete_multipart_upload(**request)


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
            _put(uri, _PROBE, {"IfNoneMatch": "*"})
        _conditional[bucket] = False
    except FileExistsError:
        _conditional[bucket] = True
    except UnsupportedError:
        _put(uri, _PROBE, {})  # a store may know no writing at all
        _conditional[bucket] = False
    return _conditional[bucket]


def remove(uris: list[str]) -> None:
    """Remove objects; what is not there is fine."""
    for bucket, keys in groupby(sorted(map(split, uris)), itemgetter(0)):
        entries = [{"Key": key} for _, key in keys]
        for start in range(0, len(entries), _DELETED_AT_ONCE):
            _remove(bucket, entries[start : start + _DELETED_AT_ONCE])


def _remove(bucket: str, entries: list[dict[str, str]]) -> None:
    """The answer says for each key what went wrong; what may be over by the next attempt is asked for again, alone."""
    left = entries

    def delete() -> None:
        nonlocal left
        doomed = {"Objects": left, "Quiet": True}
        errors = client().delete_objects(Bucket=bucket, Delete=doomed).get("Errors", ())
        for error in errors:
            if error["Code"] not in TRANSIENT_CODES:
                raise OSError(f"{S3}{bucket}/{error['Key']}: {error['Code']}: not removed")
        left = [{"Key": error["Key"]} for error in errors]
        if errors:
            raise ConnectionError(f"{errors[0]['Key']}: {errors[0]['Code']}: not removed")

    persist(f"{S3}{bucket}", delete)


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
    """Page after page; none where some stores say that nothing is found, and others that they know no such thing."""
    while request:
        try:
            answer = persist(uri, client().list_multipart_uploads, **request)
        except (FileNotFoundError, UnsupportedError):
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
