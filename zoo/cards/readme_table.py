"""A repository's README with tables of trained models -> a model-index.

This supports one layout: Markdown tables, one with errors by input size (`Top-1 224x`), parameters (`#P`) and `GFLOPs`,
another with links to weights. Rows without a link are baselines, not models. The only value that is assumed, the
interpolation, is recorded as an erratum of the entry.
"""

import re
from typing import Any

_COUNTS = {"#P", "GFLOPs"}
_CROP = re.compile(r"center (\d+)x\d+.*? crop from resized image with shorter side = ([1-9]\d*)")
_UNSTATED_RESIZE = {
    "Field": "Interpolation",
    "Correct": "bilinear",
    "Reason": "the README does not say how images are resized; bilinear is what Caffe's data layers do",
}


def document(page: dict[str, Any], source: str) -> dict[str, Any]:
    """The model-index of a repository's page.

    Args:
        page: Has `readme`, the Markdown text, and `url`, the location of the code.
        source: Name of the page in error messages.

    Raises:
        ValueError: If the README does not state the crop, or has no table of trained models.
    """
    readme = str(page.get("readme", ""))
    tables = _tables(readme)
    links = {row.get("Model"): link for table in tables for row in table if (link := _link(row))}
    found = {row["Model"]: row for table in tables for row in table if row.keys() >= _COUNTS and row["Model"] in links}
    crop = _CROP.search(readme)
    counts = [row[key] for row in found.values() for key in _COUNTS]
    if not counts or not crop or not all(re.fullmatch(r"\d+(\.\d+)?M?", count) for count in counts):
        needed = "errors by size, #P, GFLOPs, links to weights"
        raise ValueError(f"{source}: its readme has no table of trained models ({needed})")
    collection = re.search(r"^# (\w+): ([^<\n]+?)\s*(?:<|$).*?\((https?://[^)]+)\)", readme, re.MULTILINE)
    paper = {"Title": collection[2], "URL": collection[3]} if collection else None
    geometry = {"Image Size": int(crop[1]), "Crop Pct": int(crop[1]) / int(crop[2]), "Interpolation": "bilinear"}
    shared = {"Code": page.get("url"), **({"Paper": paper} if paper else {})}
    return {"Models": [{**_entry(row, links[name], geometry), **shared} for name, row in found.items()]}


def _entry(row: dict[str, str], link: str, geometry: dict[str, Any]) -> dict[str, Any]:
    name = re.sub(r"\W", "", row["Model"]).lower()
    results = [
        {"Task": "Image Classification", "Dataset": "ImageNet", "Image Size": size, "Metrics": _accuracy(error)}
        for heading, error in row.items()
        if (size := _size(heading)) and re.fullmatch(r"\d+(\.\d+)?", error)
    ]
    costs = {"Parameters": _scaled(row["#P"].removesuffix("M"), 6), "FLOPs": _scaled(row["GFLOPs"], 9)}
    return {
        "Name": name,
        "Metadata": {"ID": name, **costs, **geometry},
        "Weights": link,
        "Results": results,
        "Errata": [_UNSTATED_RESIZE],
    }


def _tables(markdown: str) -> list[list[dict[str, str]]]:
    """The rows of each table with a column `Model`, as maps from heading to value."""
    tables = []
    for block in re.findall(r"(?:^\|.*\|[ \t]*\n?)+", markdown, re.MULTILINE):
        heading, _, *rows = (
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.split("\n") if line.strip()
        )
        tables.append([dict(zip(heading, row, strict=False)) for row in rows])
    return [table for table in tables if table and "Model" in table[0]]


def _link(row: dict[str, str]) -> str | None:
    found = [match[1] for cell in row.values() if (match := re.search(r"\]\((https?://[^)]+)\)", cell))]
    return found[0] if found else None


def _size(heading: str) -> int | None:
    match = re.fullmatch(r"Top-1 (\d+)x", heading)
    return int(match[1]) if match else None


def _accuracy(error: str) -> dict[str, str]:
    return {"Top 1 Accuracy": f"{100 - float(error):.2f}%"}


def _scaled(number: str, digits: int) -> int:
    return round(float(number) * 10**digits)
