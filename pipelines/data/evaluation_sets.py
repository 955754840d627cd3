"""Evaluation sets: what a dataset is a copy of, so that it is known which claims are of it and which classes count.

Owns the definitions, ours and a user's, and their checks. Refuses to look at a dataset: what it is, the user says.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

import jsonschema
import yaml

from pipelines import storage
from zoo import imagenet

OURS = "ours:"
"""How a file that comes with this package is named."""
_NAME, _SYNSET = r"^\w[\w.-]*$", r"^n\d{8}$"
_SCHEMA = {
    "type": "object",
    "required": ["Datasets"],
    "additionalProperties": False,
    "properties": {
        "Datasets": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["Name", "Title"],
                "additionalProperties": False,
                "dependentRequired": {"Of": ["Labels"], "Labels": ["Of", "Key"], "Key": ["Labels"]},
                "properties": {
                    "Name": {"type": "string", "pattern": _NAME},
                    "Title": {"type": "string"},
                    "Images": {"type": "integer", "minimum": 1},
                    "Claims": {"type": "string"},
                    "Classes": {
                        "type": "array",
                        "minItems": 1,
                        "uniqueItems": True,
                        "items": {"type": ["integer", "string"], "minimum": 0, "pattern": _SYNSET},
                    },
                    "Of": {"type": "string"},
                    "Labels": {"type": "string"},
                    "Key": {"type": "string"},
                    "Source": {"type": "string"},
                },
            },
        }
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """An evaluation set.

    `images` is how many the complete set has, `claims` what cards call it; None where no card claims anything.
    `subset` are the classes that count, None for all. A set with `labels` is a relabelled set: it reads the cells of
    the set `of`, with labels from a JSON file, at the number that the pattern `key` finds in a sample's key.
    """

    name: str
    title: str
    images: int | None = None
    claims: str | None = None
    subset: tuple[int, ...] | None = None
    of: str | None = None
    labels: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.key is None:
            return
        try:
            groups = re.compile(self.key).groups
        except re.error as error:
            raise ValueError(f"{self.name}: Key {self.key!r} is no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"{self.name}: Key {self.key!r} has {groups} groups; one, for the number, is expected")


def known_sets(files: Sequence[str] = ()) -> dict[str, EvaluationSet]:
    """Our definitions and those of a user's `files` (paths or URIs), by name.

    Raises:
        ValueError: naming the file and the entry, if a definition is not one, or its name is taken.
    """
    ours = resources.files("pipelines.data").joinpath("evaluation_sets.yaml").read_text(encoding="utf-8")
    known: dict[str, EvaluationSet] = {}
    for source, text in (("evaluation_sets.yaml", ours), *((file, storage.read(file).decode()) for file in files)):
        for definition in _parsed(text, source):
            if definition.name in known:
                raise ValueError(f"{source}: a dataset is called {definition.name!r} already; give yours another name")
            known[definition.name] = definition
    for definition in known.values():
        if definition.of is not None and definition.of not in known:
            raise ValueError(f"{definition.name}: Of {definition.of!r}: {_unknown(definition.of, known)}")
        if definition.of is not None and known[definition.of].of:
            raise ValueError(
                f"{definition.name}: Of {definition.of!r}: has no cells of its own, but is a relabelled set"
            )
    return known


def named(name: str, files: Sequence[str] = ()) -> EvaluationSet:
    """The set called `name`.

    Raises:
        ValueError: if there is none, or it is a relabelled set, which has no cells of its own.
    """
    known = known_sets(files)
    if name not in known:
        raise ValueError(f"--dataset {name}: {_unknown(name, known)}")
    if known[name].of:
        raise ValueError(f"--dataset {name}: is {known[name].of} with other labels; evaluate that")
    return known[name]


def _parsed(text: str, source: str) -> Iterable[EvaluationSet]:
    try:
        document = yaml.safe_load(text)
        jsonschema.validate(document, _SCHEMA)
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: no YAML: {' '.join(str(error).split())}") from None
    except jsonschema.ValidationError as error:
        where = "/".join(str(part) for part in error.absolute_path) or "the document"
        raise ValueError(f"{source}: {where}: {error.message.splitlines()[0][:200]}") from None
    for entry in document["Datasets"]:
        yield EvaluationSet(
            name=entry["Name"],
            title=entry["Title"],
            images=entry.get("Images"),
            claims=entry.get("Claims"),
            subset=_classes(entry["Classes"], f"{source}: {entry['Name']}") if "Classes" in entry else None,
            of=entry.get("Of"),
            labels=entry.get("Labels"),
            key=entry.get("Key"),
        )


def _classes(said: Iterable[int | str], where: str) -> tuple[int, ...]:
    """As numbers; synset ids are those of ImageNet-1k."""
    known = {synset: number for number, synset in enumerate(imagenet.synsets())}
    if unknown := sorted({one for one in said if isinstance(one, str)} - known.keys()):
        raise ValueError(f"{where}: Classes: no class of ImageNet-1k has the synset {unknown[0]}")
    return tuple(sorted({known[one] if isinstance(one, str) else int(one) for one in said}))


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no such evaluation set{hint} (known: {', '.join(known)}; --datasets FILE.yaml defines others)"
