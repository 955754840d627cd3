"""Evaluation sets: what a dataset is a copy of, and so which claims it can check and which classes count.

Definitions come with the package or from a user's files. The user says which set a dataset is; it is not guessed from
the data.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import jsonschema
import yaml

from pipelines import storage
from zoo import imagenet

OURS = "ours:"
"""Prefix of the name of a file that comes with `pipelines.evaluation`."""
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
    """An evaluation set, or another one relabelled: the cells of the set `of` with other labels.

    Attributes:
        name: as --dataset has it.
        title: as reports have it.
        images: in the complete set.
        claims: its name in cards; None where no card claims anything.
        subset: the classes that count; None for all.
        of: of a relabelled set, the name of the set that has the cells.
        labels: of a relabelled set, a JSON file with the labels of each image, by number.
        key: of a relabelled set, the pattern whose group finds that number in a sample's key.
        labelled: whether its samples have labels; those of a user's set that another one relabels need none.
    """

    name: str
    title: str
    images: int | None = None
    claims: str | None = None
    subset: tuple[int, ...] | None = None
    of: str | None = None
    labels: str | None = None
    key: str | None = None
    labelled: bool = True

    def __post_init__(self) -> None:
        if self.key is None:
            return
        try:
            groups = re.compile(self.key).groups
        except re.error as error:
            raise ValueError(f"{self.name}: Key {self.key!r} is not a regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"{self.name}: Key {self.key!r} has {groups} groups, expected 1, for the number")


def known_sets(files: Sequence[str] = ()) -> dict[str, EvaluationSet]:
    """The definitions of this package and of a user's `files` (paths or URIs), by name.

    Raises:
        ValueError: naming the file and the entry, if a definition is not valid or its name is taken.
    """
    bundled = resources.files("pipelines.data").joinpath("evaluation_sets.yaml").read_text(encoding="utf-8")
    known: dict[str, EvaluationSet] = {}
    for source, text in (("evaluation_sets.yaml", bundled), *((file, storage.read(file).decode()) for file in files)):
        for definition in _parsed(text, source):
            if definition.name in known:
                raise ValueError(f"{source}: evaluation set {definition.name!r} exists already; choose another name")
            known[definition.name] = definition
    for definition in known.values():
        if definition.of is not None and definition.of not in known:
            raise ValueError(f"{definition.name}: Of {definition.of!r}: {_unknown(definition.of, known)}")
        if definition.of is not None and known[definition.of].of:
            raise ValueError(f"{definition.name}: Of {definition.of!r}: is relabelled itself, so it has no cells")
    relabelled = {definition.of for definition in known.values()}
    return {
        name: replace(definition, labelled=definition.claims is not None or name not in relabelled)
        for name, definition in known.items()
    }


@cache
def _subsets() -> Mapping[str, tuple[int, ...]]:
    return {name: known.subset for name, known in known_sets().items() if known.subset}


def numberings_of(evaluation_set: EvaluationSet | None) -> Mapping[str, tuple[int, ...]]:
    """By name, the classes of sets whose labels may be numbered among themselves: of the set, or of all if unknown."""
    if evaluation_set is None:
        return _subsets()
    return {evaluation_set.name: evaluation_set.subset} if evaluation_set.subset else {}


def named(name: str, files: Sequence[str] = ()) -> EvaluationSet:
    """The set called `name`.

    Raises:
        ValueError: if there is none, or it is relabelled and so has no cells of its own.
    """
    known = known_sets(files)
    if name not in known:
        raise ValueError(f"--dataset {name}: {_unknown(name, known)}")
    if known[name].of:
        raise ValueError(f"--dataset {name}: is {known[name].of} with other labels; evaluate {known[name].of}")
    return known[name]


def _parsed(text: str, source: str) -> Iterable[EvaluationSet]:
    try:
        document = yaml.safe_load(text)
        jsonschema.validate(document, _SCHEMA)
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
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


def _classes(given: Iterable[int | str], where: str) -> tuple[int, ...]:
    """Class numbers, given as such or as synset ids of ImageNet-1k."""
    known = {synset: number for number, synset in enumerate(imagenet.synsets())}
    if unknown := sorted({each for each in given if isinstance(each, str)} - known.keys()):
        raise ValueError(f"{where}: Classes: no class of ImageNet-1k has the synset {unknown[0]}")
    return tuple(sorted({known[each] if isinstance(each, str) else int(each) for each in given}))


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no such evaluation set{hint} (known: {', '.join(known)}; --datasets FILE.yaml defines others)"
