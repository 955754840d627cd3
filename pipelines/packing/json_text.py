"""JSON that people bring -> values, or an error that names the file: nothing in it is lost, and every text is text."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes half a letter; two of them may be a whole one."""


def parse(content: str, shown: str) -> Any:
    """The value that `content` writes.

    Raises:
        ValueError: if it is no JSON, is nested too deeply, names an entry twice, or has half a letter; `shown`
            names it.
    """
    try:
        found = json.loads(content, object_pairs_hook=_distinct)
        if _SURROGATE.search(content):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{shown}: {error.object[error.start]!r} is half a letter, no text") from None
    except RecursionError:
        raise ValueError(f"{shown}: not JSON that can be read: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NoJsonError(f"{shown}: not JSON: {error}") from None
    except ValueError as error:  # an entry that occurs twice, or an integer of thousands of digits
        raise ValueError(f"{shown}: {error}") from None
    return found


class NoJsonError(ValueError):
    """Text that is not one value of JSON."""


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        repeated = next(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
        raise ValueError(f"the entry {repeated!r} occurs twice")
    return dict(pairs)
