"""Download files over HTTP in pieces, with timeouts and retries. The caller verifies the content."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

PIECE_BYTES = 1 << 20
_CONNECT_SECONDS, _READ_SECONDS = 5, 30
_RETRIES = 4
_PATIENCE_SECONDS, _LEAST_BYTES_A_SECOND = 20, 10_000
_TRANSIENT = (429, 500, 502, 503, 504)


class FetchError(OSError):
    """A file cannot be fetched; `transient` means that another attempt may succeed."""

    def __init__(self, reason: str, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


@contextmanager
def open_url(url: str) -> Iterator[tuple[Iterable[bytes], int | None]]:
    """Open `url`.

    Yields:
        The content in pieces of at most `PIECE_BYTES`, and its size in bytes, None if the server does not report it.

    Raises:
        FetchError: If the server responds with an error, cannot be reached after some retries, truncates the body, or
            sends it too slowly.
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
        respect_retry_after_header=False,  # it could be hours, while other processes wait for this one
    )
    answered = False
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        try:
            # Without compression, Content-Length is the size of the file.
            headers = {"Accept-Encoding": "identity"}
            with session.get(url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as response:
                response.raise_for_status()
                size = response.headers.get("Content-Length", "")
                answered = True
                yield _pieces(response.raw), int(size) if size.isdigit() else None
        except requests.HTTPError as error:
            raise FetchError(_cause(error)) from error
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            # A request without a response has been retried already; one whose body broke off has not.
            raise FetchError(f"{type(error).__name__}, {_cause(error)}", transient=answered) from error
        except requests.RequestException as error:
            raise FetchError(_cause(error)) from error


def _pieces(raw: Any) -> Iterator[bytes]:
    """The body as it arrives. Raises a FetchError if it arrives too slowly, which no timeout detects."""
    started, done = time.monotonic(), 0
    while piece := raw.read1(PIECE_BYTES):
        done += len(piece)
        yield piece
        elapsed = time.monotonic() - started
        if elapsed > _PATIENCE_SECONDS and done < elapsed * _LEAST_BYTES_A_SECOND:
            raise FetchError(
                f"too slow: {done:,} bytes in {elapsed:.0f} s, expected {_LEAST_BYTES_A_SECOND:,} per second"
            )


def _cause(error: BaseException) -> str:
    """The message of the innermost exception, without those that libraries wrap around it."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__
