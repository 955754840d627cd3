"""Names of classes -> labels, as `--classes` gives them: a file of names, or the word `sorted`.

A file has one name a line, in the order of the labels. If each line is a synset of ImageNet with its names, as in
LOC_synset_mapping.txt, a label is ImageNet's index instead, whatever the order and number of lines. JSON may be a list
of names, or a map between labels and names, as in imagenet_class_index.json.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pipelines import storage
from pipelines.packing import json_text, text
from zoo import imagenet

SORTED = "sorted"
"""`--classes sorted`: the label is the position among the sorted names."""
NONE = "none"
"""`--classes none`: folders are no classes, and no image gets a label."""
MAX_LABEL = (1 << 31) - 1
_LONGEST = 20
"""Digits of a label that are read; more are no label."""
_HEADERS = frozenset(
    f"{of}{what}{many}"
    for what in ("class", "label", "name", "category", "categorie", "synset", "wnid")
    for of in ("", "class", "label", "category")
    for many in ("", "s", "es")
) | {"labelmap", "species", "words", "folder", "folders"}
"""What tables call a column of classes, in letters alone and without case."""
_log = logging.getLogger(__name__)
_MAPPING = re.compile(r"(n\d{8})\s+(\S.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The label of each class name; `source` says where they come from, for messages.

    `aliases` are other names of the same classes: lemmas of a synset, underscores in place of spaces. `header` is the
    name of the first class if it could be the name of a column.
    """

    labels: Mapping[str, int]
    source: str
    aliases: Mapping[str, int] = field(default_factory=dict[str, int])
    header: str | None = None

    def every_name(self) -> dict[str, int]:
        """The label of every name and alias, with their accents as one letter and as two."""
        known = {**self.aliases, **self.labels}
        forms = {text.other_form(name): label for name, label in known.items() if not name.isascii()}
        return {**forms, **known}

    def require_no_header(self, is_used: bool, where: object) -> None:
        """Raise ValueError if the first name is a header rather than a class.

        Args:
            is_used: whether something has the label 0.
            where: what has labels, for the message.
        """
        if self.header and not is_used:
            raise ValueError(
                f"{self.source}: its first line {self.header!r} is no class in {where}, and looks like a header, with "
                "which labels are one too high; remove it, or write the names as a list in JSON if it is a class"
            )

    def __str__(self) -> str:
        pairs = sorted(self.labels.items(), key=lambda pair: pair[1])
        how = "positions of the sorted names" if self.source.endswith(SORTED) else f"by {self.source}"
        return f"{how}: {text.examples([f'{name} {label}' for name, label in pairs])}"

    def require(self, names: Iterable[str], where: object) -> None:
        """Raise ValueError if a name is none of the classes.

        Args:
            names: the names that need a label.
            where: what has these names, for the message.
        """
        known = self.every_name()
        if missing := sorted({name for name in names if name not in known}):
            raise ValueError(
                f"{where}: {text.examples(missing)} {'is' if len(missing) == 1 else 'are'} not among the "
                f"{len(self.labels):,} names of {self.source} ({text.examples(list(self.labels))})"
            )


def sorted_classes(names: Iterable[str]) -> Classes:
    """Each name with its position among the sorted names."""
    labels = {name: label for label, name in enumerate(sorted(set(names)))}
    return Classes(labels=labels, source="--classes sorted")


def imagenet_synsets() -> dict[str, int]:
    """ImageNet's index of each of its 1000 synsets."""
    return {synset: label for label, synset in enumerate(imagenet.synsets())}


def read_classes(uri: str) -> Classes:
    """The classes in the file at `uri`.

    Raises:
        ValueError: if a name occurs twice, or the file names none; the message names the line.
    """
    content = text.decode(storage.read(uri), uri)
    if content.lstrip()[:1] in {"[", "{"}:
        return _from_json(content, uri)
    lines = [(number, line.strip()) for number, line in enumerate(text.lines_of(content), 1) if line.strip()]
    if comments := [line for _, line in lines if line.startswith("#")]:
        _log.warning("%s: lines that begin with # are no classes (%s)", uri, text.examples(comments))
        lines = [(number, line) for number, line in lines if not line.startswith("#")]
    matches = [_MAPPING.fullmatch(line) for _, line in lines]
    if lines and all(matches):
        rows = [(number, found[1], found[2]) for (number, _), found in zip(lines, matches, strict=True) if found]
        return _from_mapping(rows, uri)
    header = lines[0][1] if lines and re.sub(r"[\W_]", "", lines[0][1].casefold()) in _HEADERS else None
    return replace(_in_order(lines, uri), header=header)


def _in_order(lines: Sequence[tuple[int, str]], uri: str) -> Classes:
    _require_distinct(lines, uri)
    labels = {name: label for label, (_, name) in enumerate(lines)}
    return Classes(labels=labels, source=uri, aliases=_spaced(labels))


def _require_distinct(lines: Sequence[tuple[int, str]], uri: str) -> None:
    if not lines:
        raise ValueError(f"{uri}: names no class; expected one name a line")
    seen: dict[str, int] = {}
    for number, name in lines:
        if seen.setdefault(name, number) != number:
            raise ValueError(f"{uri} line {number}: the class {name!r} is in line {seen[name]} too")


def _from_mapping(rows: Sequence[tuple[int, str, str]], uri: str) -> Classes:
    """Synsets with their names; lemmas that several synsets share are no aliases."""
    _require_distinct([(number, synset) for number, synset, _ in rows], uri)
    index = imagenet_synsets()
    unknown = [(number, synset) for number, synset, _ in rows if synset not in index]
    if unknown and len(unknown) < len(rows):
        raise ValueError(
            f"{uri} line {unknown[0][0]}: {unknown[0][1]} is none of ImageNet's 1000 synsets, and others are; for "
            "labels by line write the synsets alone, one a line"
        )
    by_index = not unknown
    labels = {synset: index[synset] if by_index else place for place, (_, synset, _) in enumerate(rows)}
    named = [(name, labels[synset]) for _, synset, words in rows for name in {words, *re.split(r",\s*", words)}]
    count = Counter(name for name, _ in named)
    aliases = {name: label for name, label in named if count[name] == 1}
    return Classes(labels=labels, source=uri, aliases={**_spaced(aliases), **aliases})


def _spaced(labels: Mapping[str, int]) -> dict[str, int]:
    """Names with underscores in place of spaces, as folders often have them, where no two become the same."""
    named = [(name.replace(" ", "_"), label) for name, label in labels.items() if " " in name]
    count = Counter(name for name, _ in named)
    return {name: label for name, label in named if count[name] == 1 and name not in labels}


def _from_json(content: str, uri: str) -> Classes:
    parsed: object = json_text.parse(content, uri)
    if isinstance(parsed, list):
        return _in_order([(entry, _name(name, uri)) for entry, name in enumerate(cast(list[Any], parsed), 1)], uri)
    content_of = cast(dict[str, Any], parsed)
    if content_of and all(type(label) is int and label >= 0 for label in content_of.values()):
        if len(set(content_of.values())) < len(content_of):
            raise ValueError(f"{uri}: two names have the same label")
        for name, label in content_of.items():
            _require_label(label, f"the label of {name!r}", uri)
        return Classes(labels=content_of, source=uri, aliases=_spaced(content_of))
    if not content_of or not all(label.isascii() and label.isdigit() for label in content_of):
        raise ValueError(f"{uri}: expected a list of names, or a map of labels to names or of names to labels")
    numbers: dict[int, Any] = {}
    for entry, name in content_of.items():
        label = int(entry) if len(entry) <= _LONGEST else MAX_LABEL + 1
        _require_label(label, f"the label {entry[:_LONGEST]}", uri)
        if label in numbers:
            raise ValueError(f"{uri}: the label {label} occurs twice")
        numbers[label] = name
    return _numbered(numbers, uri)


def _require_label(label: int, what: str, uri: str) -> None:
    if label > MAX_LABEL:
        raise ValueError(f"{uri}: {what} is not an integer from 0 to {MAX_LABEL}")


def _name(name: object, uri: str) -> str:
    """The name that an entry of JSON is."""
    if not isinstance(name, str | int) or isinstance(name, bool) or not str(name).strip():
        raise ValueError(f"{uri}: {json.dumps(name)[:80]} is no name of a class")
    return str(name)


def _numbered(names: Mapping[int, Any], uri: str) -> Classes:
    """A map of labels to a name each, or to a synset and a name."""
    pairs = [(label, _parts(names[label], uri)) for label in sorted(names)]
    _require_distinct([(label, parts[0]) for label, parts in pairs if parts], uri)
    count = Counter(part for _, parts in pairs for part in parts[1:])
    aliases = {part: label for label, parts in pairs for part in parts[1:] if count[part] == 1}
    labels = {parts[0]: label for label, parts in pairs if parts}
    return Classes(labels=labels, source=uri, aliases={**_spaced(labels), **aliases})


def _parts(name: Any, uri: str) -> list[str]:
    parts = cast(list[Any], name) if isinstance(name, list) else [name]
    return [_name(part, uri) for part in parts or [None]]
