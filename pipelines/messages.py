"""Texts that others may read: an error in one line of bounded length, and URLs without secrets.

Others read logs, MLflow and a store's records; a URL may hold a user, a password or a signature.
"""

import re

LONGEST = 300
"""Characters of a reason: an error of Ray's may hold a worker's whole traceback, one of the AWS SDK a web page."""
_WORD = re.compile(r"\S+")
_URL_START = re.compile(r"[^?#]*?//")
_AUTHORITY_END, _QUERY = re.compile("[/?#]"), re.compile("[?#]")


def without_secrets(text: str) -> str:
    """`text` without what stands before an @, after a ? or, in a URL, after a #.

    A password may hold any of these signs, and / too, so more than the secret may be left out of a word with an @.
    """
    return _WORD.sub(lambda word: _public_word(word[0]), text)


def _public_word(word: str) -> str:
    start = _URL_START.match(word)
    head = start[0] if start else ""
    rest, head = word.removeprefix(head), _without_users(head)
    before, at, after = rest.rpartition("@")
    if at and _QUERY.search(before):  # a query with an @, or a password with the sign of a query
        return head
    if at:
        rest = after if head else _without_users(rest)
    end = re.search(r"[?#]." if head else r"\?.", rest)
    return head + (rest[: end.start()] if end else rest)


def _without_users(path: str) -> str:
    """`path` without what stands before an @ in each of its parts: a user and a password where a scheme is missing."""
    return "/".join(part.rpartition("@")[2] for part in path.split("/"))


def public_url(url: str) -> str:
    """`url` without user, password, query and fragment; a text without a scheme loses only query and fragment."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _QUERY.split(url, maxsplit=1)[0]
    authority = _AUTHORITY_END.split(rest, maxsplit=1)[0]
    after = rest.removeprefix(authority)
    if "@" in after and (":" in authority or after[0] in "?#"):  # perhaps a password with the sign of a path or query
        return without_secrets(url)
    return f"{scheme}://{authority.rpartition('@')[2]}{_QUERY.split(after, maxsplit=1)[0]}"


def one_line(text: object, *, from_end: bool = False) -> str:
    """`text` without line breaks and secrets: its first `LONGEST` characters, or its last."""
    line = " ".join(without_secrets(str(text)).split())
    return line[-LONGEST:] if from_end else line[:LONGEST]


def error_line(error: BaseException, *, first_paragraph: bool = False) -> str:
    """The type of `error` and its message in one line; of a compiler's pages, only the first paragraph."""
    message = str(error).partition("\n\n")[0] if first_paragraph else str(error)
    return one_line(f"{type(error).__name__}: {message}")
