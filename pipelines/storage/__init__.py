"""Objects by URI: a local folder and S3 behave the same.

Owns     whole reads and writes, retries, the folders of a store, and the meaning of a store's errors, in one line each.
In       URIs (`s3://bucket/key`, local paths) and bytes.
Out      bytes, listings, and errors whose type tells whether another attempt may help.
Never    write over an object that must not change (`put`), or return bytes that do not match the store's checksum.
"""

from pipelines.storage.objects import (
    Leftover,
    StoredObject,
    absolute,
    anonymous,
    discard,
    exists,
    forget_clients,
    is_remote,
    join,
    leftovers,
    list_objects,
    local_path,
    open_input,
    path_in_store,
    probe,
    put,
    put_file,
    read,
    remove,
    replace,
    require_same,
    require_writable,
    signed,
    stat,
)
from pipelines.storage.s3_client import S3
from pipelines.storage.s3_errors import DamagedError, DeniedError, UnavailableError

__all__ = [
    "S3",
    "DamagedError",
    "DeniedError",
    "Leftover",
    "StoredObject",
    "UnavailableError",
    "absolute",
    "anonymous",
    "discard",
    "exists",
    "forget_clients",
    "is_remote",
    "join",
    "leftovers",
    "list_objects",
    "local_path",
    "open_input",
    "path_in_store",
    "probe",
    "put",
    "put_file",
    "read",
    "remove",
    "replace",
    "require_same",
    "require_writable",
    "signed",
    "stat",
]
