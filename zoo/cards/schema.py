"""What a model-index must look like to become cards.

Owns the schema and the errors that it is answered with. Refuses what would have to be guessed: without size, crop and
interpolation a model cannot be tested as it was; an accuracy without a percent sign is taken for percent only above 1.
"""

import difflib
from collections.abc import Iterable
from typing import Any

_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 1}
_NUMBER = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\d+(\.\d+)?\Z"}]}
_PIXELS = {"anyOf": [_COUNT, {"type": "string", "pattern": r"^\d+\Z"}]}
_PERCENT = {
    "anyOf": [
        {"type": "string", "pattern": r"^(100(\.0+)?|\d{1,2}(\.\d+)?) ?%$"},
        {"type": "number", "exclusiveMinimum": 1, "maximum": 100},
    ]
}
_TRIPLE = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
_LIST = {"type": "array", "items": {"type": ["string", "number"]}}
_PAPER = {"type": "object", "properties": {"Title": _TEXT, "URL": _TEXT}, "required": ["Title"]}

METADATA = {
    "ID": _TEXT,  # the architecture; the model's name where absent
    "FLOPs": _COUNT,
    "Parameters": _COUNT,
    "File Size": {"type": ["integer", "null"], "minimum": 1},  # bytes
    "Crop Pct": _NUMBER,
    "Image Size": _PIXELS,
    "Interpolation": {"enum": ["bicubic", "bilinear"]},
    "Mean": _TRIPLE,  # of channels in [0, 1]
    "Std": _TRIPLE,
    "Channels": {"enum": ["RGB", "BGR"]},
    "Label Order": {"enum": ["synset", "devkit"]},
    "Classes": {**_COUNT, "maximum": 32767},  # cells number them in 16 bits
    "SHA-256": {"type": "string", "pattern": r"^[0-9a-f]{8,64}\Z"},
    "License": _TEXT,
    "Architecture": _LIST,
    "Tasks": _LIST,
    "Training Techniques": _LIST,
    "Training Data": _LIST,
}
METRICS = ("Top 1 Accuracy", "Top 5 Accuracy")
MODEL = {
    "type": "object",
    "required": ["Name", "Metadata"],
    "additionalProperties": False,
    "properties": {
        "Name": {"type": "string", "pattern": r"^\w[\w.-]{0,99}\Z"},
        "In Collection": _TEXT,
        "Paper": _PAPER,
        "Code": _TEXT,
        "Weights": {"type": ["string", "null"], "minLength": 1},
        "Mirrors": {"type": "array", "items": _TEXT},
        "Metadata": {
            "type": "object",
            "required": ["Image Size", "Crop Pct", "Interpolation"],
            "properties": METADATA,
        },
        "Results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["Task", "Dataset", "Metrics"],
                "additionalProperties": False,
                "properties": {
                    "Task": _TEXT,
                    "Dataset": _TEXT,
                    "Image Size": _PIXELS,
                    "Source": _TEXT,
                    "Metrics": {"type": "object", "additionalProperties": _PERCENT},
                },
            },
        },
        "Errata": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["Field", "Reason"],
                "additionalProperties": False,
                "properties": {"Field": _TEXT, "Published": {}, "Correct": {}, "Reason": _TEXT},
            },
        },
    },
}
_DOCUMENT = {
    "type": "object",
    "required": ["Models"],
    "properties": {
        "Models": {"type": "array", "minItems": 1, "items": MODEL},
        "Collections": {
            "type": "array",
            "items": {"type": "object", "required": ["Name"], "properties": {"Name": _TEXT, "Paper": _PAPER}},
        },
    },
}


def check(document: dict[str, Any], source: str) -> None:
    """Refuse a document that does not look like a model-index.

    Raises:
        ValueError: naming the place, what is there and what is expected.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    if error := best_match(Draft202012Validator(_DOCUMENT).iter_errors(document)):
        path = list(error.absolute_path)
        told = f"{error.instance!r} is no percentage; write it as 77.18%" if "Metrics" in path else error.message
        raise ValueError(f"{source}: {_place(document, path)}: {told}")
    for entry in document["Models"]:
        for key in entry["Metadata"]:
            _refuse_typo(str(key), METADATA, f"{source}: {entry['Name']}: Metadata")
        for key in (key for result in entry.get("Results", ()) for key in result["Metrics"]):
            _refuse_typo(str(key), METRICS, f"{source}: {entry['Name']}: Metrics")


def _place(document: dict[str, Any], path: list[str | int]) -> str:
    """`resnest50d: Metadata.Crop Pct` for a place in a model that has a name, else the path."""
    if len(path) >= 2 and path[0] == "Models":
        name = document["Models"][path[1]]
        known = name.get("Name") if isinstance(name, dict) else None
        return f"{known or f'model {path[1]}'}: {'.'.join(map(str, path[2:])) or 'its keys'}"
    return ".".join(map(str, path)) or "the document"


def _refuse_typo(key: str, known_keys: Iterable[str], where: str) -> None:
    """Other keys are facts of their own, such as an mAP; one that is nearly a known one would be lost among them."""
    by_fold = {known.casefold(): known for known in known_keys}
    near = difflib.get_close_matches(key.casefold(), by_fold, n=1, cutoff=0.8)
    if near and key not in by_fold.values():
        meant = by_fold[near[0]]
        raise ValueError(f"{where}: unknown key {key!r}; did you mean {meant!r}?")
