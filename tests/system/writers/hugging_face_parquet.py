"""Parquet by Hugging Face's `datasets`, a folder each variant: `python hugging_face_parquet.py FOLDER`."""

import sys
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image, Value
from pictures import eight

CLASSES = Path(__file__).parents[3] / "zoo" / "imagenet1k.tsv"


def write(path: Path, labels: list, label: object, images: list | None = None) -> None:
    rows = [{"bytes": one.data, "path": f"{one.key}.jpg"} for one in eight()]
    columns = {"image": rows if images is None else images, "label": labels}
    table = Dataset.from_dict(columns, features=Features({"image": Image(), "label": label}))
    path.mkdir(parents=True)
    table.to_parquet(str(path / "validation-00000-of-00001.parquet"))


def main(folder: Path) -> None:
    synsets, _, names = zip(*(line.split("\t") for line in CLASSES.read_text().splitlines()), strict=True)
    labels = [one.label for one in eight()]
    digits = sorted(map(str, range(1000)))
    write(folder / "numbered", labels, ClassLabel(names=[f"class{number}" for number in range(1000)]))
    write(folder / "integers", labels, Value("int64"))
    by_name = sorted(range(1000), key=lambda number: synsets[number][::-1])
    write(
        folder / "synsets", [by_name.index(label) for label in labels], ClassLabel(names=[synsets[n] for n in by_name])
    )
    write(folder / "digits", [digits.index(str(label)) for label in labels], ClassLabel(names=digits))
    write(folder / "names", labels, ClassLabel(names=list(names)))
    write(folder / "names_sorted", labels, ClassLabel(names=sorted(names)))
    write(folder / "test", [-1] * len(labels), ClassLabel(names=list(names)))
    rows = [{"bytes": one.data, "path": f"{one.key}.jpg"} for one in eight()]
    write(folder / "null", labels, Value("int64"), [*rows[:-1], None])


main(Path(sys.argv[1]))
