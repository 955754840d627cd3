"""Read the entries of a model-index, the YAML format of model cards (Collections, Models, Results).

The text may be a YAML file, a Markdown page with the YAML in a comment or a fenced block, or such a page copied out of
a web browser, with a header before it, `|` between the lines and without indentation. YAML without its indentation can
parse and mean something else, so the indentation is reconstructed from the keys of the format. A document that does not
pass the schema is an error.

    entries = model_index.read(text, source="mine.yaml")
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from zoo.cards import readme_table, schema

_FIRST_KEYS = {"Collections": "Name", "Models": "Name", "Results": "Task", "Errata": "Field"}
"""Lists of maps, with the key that begins an item."""
_KEYS = {
    "": ("Type", "Collections", "Models"),
    "Collections": ("Name", "Paper"),
    "Models": ("Name", "In Collection", "Paper", "Metadata", "Code", "Weights", "Mirrors", "Results", "Errata"),
    "Paper": ("Title", "URL"),
    "Results": ("Task", "Dataset", "Image Size", "Source", "Metrics"),
    "Errata": ("Field", "Published", "Correct", "Reason"),
}
"""The keys of each container; `Metadata` and `Metrics` take any key that no enclosing container has."""
_OPEN = ("Metadata", "Metrics")


def read(text: str, source: str) -> list[dict[str, Any]]:
    """The models of a document, one entry each, checked by the schema.

    Args:
        text: A model-index, or the JSON of a repository's page whose `readme` has a table of trained models.
        source: Name of the document in error messages.

    Returns:
        Entries as described by `schema.MODEL`; an entry without a paper has that of its collection.

    Raises:
        ValueError: If the document has no model-index, or one that does not pass the schema.
    """
    page = _json(text, source) if text.lstrip().startswith("{") else None
    if page is not None:
        documents = [page if "Models" in page else readme_table.document(page, source)]
    else:
        documents = [_document(_lines(part), source) for part in _parts_with_models(text)]
    for document in documents:
        schema.check(document, source)
    return [entry for document in documents for entry in _entries(document)]


def read_own(text: str) -> list[dict[str, Any]]:
    """The models of one of the zoo's own YAML files: equal to `read`, but faster and unchecked.

    PyYAML's C parser takes a quarter of the time, which makes listing the zoo fast; a test makes the checks. It must
    not read other files: it crashes on deeply nested input, and silently keeps the last of duplicate keys.
    """
    return _entries(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    papers = {entry["Name"]: entry.get("Paper") for entry in document.get("Collections", ())}
    return [{"Paper": papers.get(entry.get("In Collection")), **entry} for entry in document["Models"]]


def _json(text: str, source: str) -> dict[str, Any] | None:
    """The JSON document; None if the text may be YAML, which has maps in braces too."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if "Models" in text:
            return None
        raise ValueError(f"{source}: begins like JSON and is not valid: {error}") from error


def _parts_with_models(text: str) -> list[str]:
    """The comments and fenced blocks of a page that have a model-index; the whole text if none does."""
    enclosed = re.findall(r"<!--(.*?)-->|^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [part for parts in enclosed for part in parts if "Models:" in part] or [text]


def _lines(text: str) -> list[str]:
    """The lines of a model-index without `|` at their beginning, comments and empty lines."""
    lines = (re.sub(r"^(?:\s*\|(?:\s|$))+", "", line).rstrip() for line in text.splitlines())
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _document(lines: list[str], source: str) -> dict[str, Any]:
    if not any(re.search(r"""^\W*Models["']?\s*:""", line) for line in lines):
        found = (
            "Hugging Face's metadata" if any(line.startswith("model-index:") for line in lines) else "no model-index"
        )
        raise ValueError(f"{source}: found {found}; expected a line `Models:` followed by `- Name: ...`")
    if not any(line.startswith((" ", "\t")) or "{" in line for line in lines):
        tops = (i for i, line in enumerate(lines) if line in {"Type: model-index", "Collections:", "Models:"})
        start = next(tops, 0)  # skips the page's header, which a browser copies too
        lines = list(_indented(lines[start:], source))
    try:
        document = yaml.load("\n".join(lines), Loader=_StrictLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{source}: expected a map with `Models`, found {type(document).__name__}")
    return document


class _StrictLoader(yaml.SafeLoader):
    """Reports duplicate keys as errors; PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a map after checking that its keys are distinct."""
        keys = [key.value for key, _ in node.value]
        if doubles := [key for key in keys if keys.count(key) > 1]:
            problem = f"duplicate key {doubles[0]!r} in one map"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def _indented(lines: list[str], source: str) -> Iterator[str]:
    """Reconstruct the indentation of lines that have lost it, from the containers that their keys belong to."""
    # The open containers, outermost first: the key that opened each, and the indentation of its content.
    open_: list[tuple[str, int]] = [("", 0)]
    for line in lines:
        item, key, value = _parts(line)
        while not _takes(open_[-1][0], item, key, [name for name, _ in open_]):
            open_.pop()
            if not open_:
                raise ValueError(
                    f"{source}: the indentation is lost, and no container before {line[:60]!r} can hold it"
                )
        name, depth = open_[-1]
        yield " " * depth + line
        if item and key:
            open_.append((f"{name}[]", depth + 2))
        elif key and not value:
            open_.append((key, depth + 2))


def _parts(line: str) -> tuple[bool, str, str]:
    """Whether the line is an item of a list; its key, empty for a plain value; and its value."""
    bare = line.removeprefix("- ")
    key, colon, value = bare.partition(":")
    is_pair = colon and (not value or value.startswith(" "))
    return bare != line, key if is_pair else "", value.strip() if is_pair else bare


def _takes(container: str, item: bool, key: str, around: list[str]) -> bool:
    """Whether a line belongs to the innermost open `container`; `around` lists all open containers."""
    if container.endswith("[]"):  # a map in a list of maps
        return not item and key in _KEYS[container[:-2]]
    if container in _FIRST_KEYS:
        return item and key == _FIRST_KEYS[container]
    if container in _OPEN:
        return not item and bool(key) and not any(key in _KEYS[name[:-2]] for name in around if name.endswith("[]"))
    if container in _KEYS:
        return not item and key in _KEYS[container]
    return item  # a list of plain values
