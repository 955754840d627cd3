"""The schema of a model-index, and readable errors for documents that do not pass it.

Size, crop and interpolation are required: without them a model cannot be evaluated as published. An accuracy without a
percent sign must be above 1, since up to 1 it could be a fraction.
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
    "ID": _TEXT,  # the architecture; by default the model's name
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
    "Classes": {**_COUNT, "maximum": 32767},  # cells store classes as 16-bit integers
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
    """Check a document against the schema, and its open maps for misspelt keys.

    Args:
        document: A parsed model-index.
        source: Name of the document in error messages.

    Raises:
        ValueError: If it does not pass; the message names the place, the value and what was expected.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    if error := best_match(Draft202012Validator(_DOCUMENT).iter_errors(document)):
        path = list(error.absolute_path)
        is_metric = "Metrics" in path
        reason = f"{error.instance!r} is not a percentage; write it as 77.18%" if is_metric else error.message
        raise ValueError(f"{source}: {_place(document, path)}: {reason}")
    for entry in document["Models"]:
        for key in entry["Metadata"]:
            _check_spelling(str(key), METADATA, f"{source}: {entry['Name']}: Metadata")
        for key in (key for result in entry.get("Results", ()) for key in result["Metrics"]):
            _check_spelling(str(key), METRICS, f"{source}: {entry['Name']}: Metrics")


def _place(document: dict[str, Any], path: list[str | int]) -> str:
    """`resnest50d: Metadata.Crop Pct` for a place in a named model, otherwise the path."""
    if len(path) >= 2 and path[0] == "Models":
        name = document["Models"][path[1]]
        known = name.get("Name") if isinstance(name, dict) else None
        return f"{known or f'model {path[1]}'}: {'.'.join(map(str, path[2:])) or 'its keys'}"
    return ".".join(map(str, path)) or "the document"


def _check_spelling(key: str, known_keys: Iterable[str], where: str) -> None:
    """Unknown keys are allowed as additional facts, such as an mAP; one that is nearly a known key is an error."""
    by_fold = {known.casefold(): known for known in known_keys}
    near = difflib.get_close_matches(key.casefold(), by_fold, n=1, cutoff=0.8)
    if near and key not in by_fold.values():
        meant = by_fold[near[0]]
        raise ValueError(f"{where}: unknown key {key!r}; did you mean {meant!r}?")
