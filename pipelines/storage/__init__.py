"""Objects by URI: a local folder and S3 behave the same.

Owns     whether a read or write is whole, its retries, and what an error of a store means in one line.
In       URIs (`s3://bucket/key`, local paths) and bytes.
Out      bytes, listings, and errors that say whether another attempt may help.
Never    write over an object that must not change (`put`), or return bytes that do not match the store's checksum.
"""

from pipelines.storage.objects import (
    Leftover,
    StoredObject,
    absolute,
    discard,
    exists,
    forget_clients,
    is_remote,
    join,
    leftovers,
    list_objects,
    local_path,
    open_input,
    probe,
    put,
    put_file,
    read,
    remove,
    replace,
    require_writable,
    stat,
)
from pipelines.storage.s3_errors import DamagedError, DeniedError, UnavailableError
from pipelines.storage.s3_read import S3

__all__ = [
    "S3",
    "DamagedError",
    "DeniedError",
    "Leftover",
    "StoredObject",
    "UnavailableError",
    "absolute",
    "discard",
    "exists",
    "forget_clients",
    "is_remote",
    "join",
    "leftovers",
    "list_objects",
    "local_path",
    "open_input",
    "probe",
    "put",
    "put_file",
    "read",
    "remove",
    "replace",
    "require_writable",
    "stat",
]
