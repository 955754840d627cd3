"""Covers retries: they have no effect beyond the request."""

import random

from botocore.exceptions import EndpointConnectionError

from pipelines.storage import s3_retries


def test_pauses_between_attempts_leave_the_global_random_numbers_alone() -> None:
    failures = [EndpointConnectionError(endpoint_url="http://127.0.0.1:1")] * 2

    def call() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    random.seed(0)
    before = random.getstate()
    assert s3_retries.persist("s3://bucket/key", call) == "answer"
    assert random.getstate() == before
