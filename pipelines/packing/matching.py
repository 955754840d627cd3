"""Names in a table -> images: with or without suffix, with or without leading folders.

A name means the image whose key or name it is; otherwise the one image of which it is the end of the path, or whose
path is its own end (`/data/val/1.JPEG` is the image `val/1`). A name that could mean two images is an error.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from pipelines.data.suffixes import DECODED
from pipelines.packing.images import suffix_of
from pipelines.packing.label_table import LabelTable
from pipelines.packing.text import composed, examples

_AS_IT_IS = "as it is"


def match(table: LabelTable, keys: Sequence[str]) -> tuple[dict[str, int | None], list[str], str]:
    """The label of each image that the table names.

    Args:
        table: names and labels.
        keys: the keys of all images.

    Returns:
        The label by key; the names that are no image's; how names were matched, for messages.

    Raises:
        ValueError: if a name could mean two images, or an image has two labels; the message names the line.
    """
    finder = _Finder(keys, table.by_key)
    labels: dict[str, int | None] = {}
    ways: Counter[str] = Counter()
    idle: list[str] = []
    for name, label, place in zip(table.names, table.labels, table.places, strict=True):
        found = finder.find(name)
        if len(found) > 1:
            raise ValueError(f"{table.shown} {place}: {name!r} could be any of the images {examples(sorted(found))}")
        if not found:
            idle.append(name)
            continue
        (key, way), *_ = found.items()
        if key in labels and labels[key] != label:
            raise ValueError(f"{table.shown} {place}: {key!r} has label {label} here and {labels[key]} above")
        labels[key] = label
        ways[way] += 1
    return labels, idle, _said(ways)


def _said(ways: Counter[str]) -> str:
    if set(ways) <= {_AS_IT_IS}:
        return ""
    return "; ".join(way if len(ways) == 1 else f"{way}: {count:,}" for way, count in sorted(ways.items()))


class _Finder:
    """Finds images by what a table calls them."""

    def __init__(self, keys: Sequence[str], by_key: bool) -> None:
        self._keys = frozenset(keys)
        self._by_key = by_key
        self._is_plain = all(map(str.isascii, keys))
        self._composed: tuple[Mapping[str, list[str]], _Finder] | None = None
        self._ends: dict[int, Mapping[str, list[str]]] = {}

    def find(self, name: str) -> dict[str, str]:
        """The images that `name` may mean, each with how it was found; accents may be one letter or two."""
        found = self._find(name)
        if found or self._is_plain:
            return found
        self._composed = self._composed or self._of_composed()
        by_form, finder = self._composed
        ways = finder._find(composed(name))
        return {key: way for form, way in ways.items() for key in by_form[form]}

    def _of_composed(self) -> tuple[Mapping[str, list[str]], "_Finder"]:
        """The keys by their composed forms, and what finds these."""
        by_form: dict[str, list[str]] = {}
        for key in self._keys:
            by_form.setdefault(composed(key), []).append(key)
        return by_form, _Finder(list(by_form), self._by_key)

    def _find(self, name: str) -> dict[str, str]:
        if self._by_key and name in self._keys:
            return {name: _AS_IT_IS}
        path = _path(name)
        bare = path.rpartition(".")[0] if suffix_of(path) in DECODED else None
        forms = {path: "", **({bare: "suffix dropped"} if bare else {})}
        exact = {form: way or _AS_IT_IS for form, way in forms.items() if form in self._keys}
        if exact:
            return exact
        found: dict[str, str] = {}
        for form, way in forms.items():
            for key, folders in self._by_end(form).items():
                found.setdefault(key, ", ".join(part for part in (way, folders) if part))
        return found

    def _by_end(self, form: str) -> dict[str, str]:
        parts = form.split("/")
        shorter = ["/".join(parts[start:]) for start in range(1, len(parts))]
        found = {end: "leading folders dropped" for end in shorter if end in self._keys}
        return found | dict.fromkeys(self._ending(len(parts)).get(form, ()), "folders added")

    def _ending(self, parts: int) -> Mapping[str, list[str]]:
        """Keys by their last `parts` parts."""
        if parts not in self._ends:
            ends: dict[str, list[str]] = {}
            for key in self._keys:
                ends.setdefault("/".join(key.split("/")[-parts:]), []).append(key)
            self._ends[parts] = ends
        return self._ends[parts]


def _path(name: str) -> str:
    """The path in `name`, without scheme, bucket and what stands for here or for the root."""
    path = re.sub(r"^(file://|s3://[^/]*/)", "", name.strip())
    path = path if "/" in path else path.replace("\\", "/")
    return re.sub(r"^(\./|/)+", "", path)
