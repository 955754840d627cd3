"""A client of S3 that tries once, and what tests ask of it: past our own storage and its retries."""

from typing import Any

import boto3
from botocore.config import Config

from tests.support.servers import BUCKET

BODY = bytes(range(256)) * 40


def client(url: str, **options: Any) -> Any:
    """A client that tries once."""
    config: Any = {"retries": {"mode": "standard", "total_max_attempts": 1}, "read_timeout": 5}
    return boto3.client("s3", endpoint_url=url, config=Config(**config | options))


def keys_below(client: Any, prefix: str) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]
