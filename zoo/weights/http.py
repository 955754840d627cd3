"""Files over HTTP, in pieces.

Owns timeouts and retries of a request. Refuses to judge what comes: whoever asks knows the digest.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

CHUNK_BYTES = 1 << 20
_CONNECT_SECONDS, _READ_SECONDS = 5, 30
_RETRIES = 4
_PATIENCE_SECONDS, _LEAST_BYTES_A_SECOND = 20, 10_000
_TRANSIENT = (429, 500, 502, 503, 504)


class FetchError(OSError):
    """A place does not have what was asked of it; `transient` where asking again may help."""

    def __init__(self, reason: str, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


@contextmanager
def open_url(url: str) -> Iterator[tuple[Iterable[bytes], int | None]]:
    """What is at `url` in pieces of at most `CHUNK_BYTES`, and its size in bytes where the server says it.

    Raises:
        FetchError: if the server refuses, cannot be reached after some retries, or cuts the body short.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError
    from urllib3.util import Retry

    retry = Retry(
        _RETRIES,
        connect=2,
        read=1,
        backoff_factor=0.5,
        status_forcelist=_TRANSIENT,
        allowed_methods={"GET"},
        respect_retry_after_header=False,  # a server could ask for hours, while other processes wait for this one
    )
    answered = False
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        try:
            # Without compression: the size that the server says is then the file's.
            headers = {"Accept-Encoding": "identity"}
            with session.get(url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as response:
                response.raise_for_status()
                size = response.headers.get("Content-Length", "")
                answered = True
                yield _pieces(response.raw), int(size) if size.isdigit() else None
        except requests.HTTPError as error:
            raise FetchError(_cause(error)) from error
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            # What never answered has been asked again already; a body that breaks off has not.
            raise FetchError(f"{type(error).__name__}, {_cause(error)}", transient=answered) from error
        except requests.RequestException as error:
            raise FetchError(_cause(error)) from error


def _pieces(raw: Any) -> Iterator[bytes]:
    """The body as it comes; a trickle, which no timeout ends, is given up."""
    started, done = time.monotonic(), 0
    while piece := raw.read1(CHUNK_BYTES):
        done += len(piece)
        yield piece
        elapsed = time.monotonic() - started
        if elapsed > _PATIENCE_SECONDS and done < elapsed * _LEAST_BYTES_A_SECOND:
            raise FetchError(f"{done:,} bytes in {elapsed:.0f} s, which would take for ever")


def _cause(error: BaseException) -> str:
    """The innermost reason, without the layers that each library puts around it."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__
