"""Documents -> cards, both the zoo's own in `zoo/cards/published` and a user's.

A model of an existing architecture needs a card but no code: `ID` is the name of the architecture, and the keys that
timm's cards do not have (`Mean`, `Std`, `Channels`, `Label Order`, `Classes`, `SHA-256`, `License`, `Mirrors`) override
defaults.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from zoo.cards import model_index
from zoo.cards.card import Card, Claim, Erratum, WeightsFile
from zoo.cards.digests import digest_in
from zoo.preprocessing import Preprocessing

_METRICS = {"Top 1 Accuracy": "top1", "Top 5 Accuracy": "top5"}
_DATASETS = {"ImageNet": "ImageNet-1k validation"}
_NOT_FACTS = {
    *("ID", "FLOPs", "Parameters", "File Size", "Crop Pct", "Image Size", "Interpolation", "Mean", "Std", "Channels"),
    *("Label Order", "Classes", "SHA-256", "License", "Tasks"),
}


def read_cards(content: bytes | str, source: str) -> tuple[Card, ...]:
    """The cards in a document.

    Args:
        content: The document; bytes are decoded as UTF-8.
        source: Name of the document in error messages.

    Raises:
        ValueError: If the bytes are not UTF-8, there is no model-index, it does not pass the schema, or a card is not
            valid, for instance with an unknown architecture.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    return cards_of(model_index.read(text, source), source)


def cards_of(entries: Iterable[dict[str, Any]], source: str) -> tuple[Card, ...]:
    """The cards of `entries`, which are as returned by `model_index.read`; `source` names them in error messages.

    Raises:
        ValueError: If a card is not valid, for instance with an unknown architecture.
    """
    return tuple(_card(entry, source) for entry in entries)


def _card(entry: dict[str, Any], source: str) -> Card:
    meta = entry["Metadata"]
    try:
        return Card(
            name=entry["Name"],
            architecture=str(meta.get("ID", entry["Name"])),
            preprocessing=_preprocessing(meta),
            weights=_weights(entry),
            claims=tuple(_claims(entry, source)),
            paper=_paper(entry),
            code=entry.get("Code"),
            num_classes=meta.get("Classes", 1000),
            label_order=meta.get("Label Order", "synset"),
            claimed_params=meta.get("Parameters"),
            claimed_flops=meta.get("FLOPs"),
            facts=tuple((str(key), _text(value)) for key, value in meta.items() if key not in _NOT_FACTS),
            errata=tuple(_erratum(erratum) for erratum in entry.get("Errata", ())),
        )
    except ValueError as error:
        raise ValueError(f"{source}: {entry['Name']}: {error}") from error


def _preprocessing(meta: dict[str, Any]) -> Preprocessing:
    given: dict[str, Any] = {
        name: tuple(map(float, meta[key])) for key, name in (("Mean", "mean"), ("Std", "std")) if key in meta
    }
    return Preprocessing(
        size=int(meta["Image Size"]),
        crop_pct=float(meta["Crop Pct"]),
        interpolation=meta["Interpolation"],
        channels=meta.get("Channels", "RGB"),
        **given,
    )


def _weights(entry: dict[str, Any]) -> WeightsFile | None:
    location, meta = entry.get("Weights"), entry["Metadata"]
    if not location:
        if ignored := [key for key in ("SHA-256", "License", "File Size") if meta.get(key)]:
            raise ValueError(f"{ignored[0]} describes a file of weights, but the card has no Weights")
        return None
    in_name, given = digest_in(location), meta.get("SHA-256")
    if in_name and given and not given.startswith(in_name) and not in_name.startswith(given):
        raise ValueError(f"SHA-256 {given} differs from the one in the name of {location}")
    return WeightsFile(
        location=location,
        sha256=given or in_name,
        license=meta.get("License"),
        mirrors=tuple(entry.get("Mirrors", ())),
        size=meta.get("File Size"),
    )


def _claims(entry: dict[str, Any], source: str) -> Iterator[Claim]:
    tested = int(entry["Metadata"]["Image Size"])
    for result in entry.get("Results", ()):
        size = int(result.get("Image Size", tested))
        for name, value in result["Metrics"].items():
            if name in _METRICS:
                printed = str(value).rstrip("% ")
                yield Claim(
                    metric=_METRICS[name],  # pyright: ignore[reportArgumentType]
                    value=float(printed),
                    decimals=len(printed.partition(".")[2]),
                    dataset=_DATASETS.get(result["Dataset"]) or result["Dataset"],
                    source=result.get("Source") or entry.get("Code") or source,
                    size=None if size == tested else size,
                )


def _paper(entry: dict[str, Any]) -> str:
    paper = entry.get("Paper") or {}
    return " ".join(filter(None, (paper.get("Title"), paper.get("URL"))))


def _erratum(erratum: dict[str, Any]) -> Erratum:
    published, correct = (None if erratum.get(key) is None else _text(erratum[key]) for key in ("Published", "Correct"))
    return Erratum(field=erratum["Field"], reason=erratum["Reason"], published=published, correct=correct)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
