"""Parquet files beside the tars of the same name that only describe them, as img2dataset writes them."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.data.columns import has_image
from pipelines.data.suffixes import is_parquet, without_shard_suffix
from pipelines.storage import StoredObject

_log = logging.getLogger(__name__)
_AT_ONCE = 32


def without_sidecars(found: Sequence[StoredObject]) -> list[StoredObject]:
    """The shards in `found` without the Parquet files that lie beside a tar of their name and have no pictures.

    Only such pairs are opened, and only their schema is read. A warning counts what is left out.

    Raises:
        ValueError: naming a Parquet file that cannot be read.
    """
    tars = {without_shard_suffix(entry.uri) for entry in found if not is_parquet(entry.uri)}
    beside = [entry.uri for entry in found if is_parquet(entry.uri) and without_shard_suffix(entry.uri) in tars]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        tables = {uri for uri, image in zip(beside, pool.map(_has_image, beside), strict=True) if not image}
    if tables:
        _log.warning(
            "%d Parquet files without pictures lie beside tars of their name; the tars are read (%s)",
            len(tables),
            min(tables),
        )
    return [entry for entry in found if entry.uri not in tables]


def _has_image(uri: str) -> bool:
    try:
        with storage.open_input(uri) as source:
            return has_image(pq.ParquetFile(source).schema_arrow)
    except pa.ArrowException as error:
        raise ValueError(f"{uri}: {error}") from error
