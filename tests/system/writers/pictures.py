"""Eight small pictures with labels, the same in every run: what each writer beside this file writes."""

import io
import random
from pathlib import Path
from typing import NamedTuple

from PIL import Image

LABELS = (0, 207, 999, 3, 10, 1, 2, 388)


class Picture(NamedTuple):
    """One of the eight."""

    key: str
    label: int
    data: bytes


def eight() -> list[Picture]:
    return [Picture(f"{number:06d}", label, _encoded(number, "JPEG")) for number, label in enumerate(LABELS)]


def mask(number: int) -> bytes:
    """A picture beside the picture `number`, other than it."""
    return _encoded(100 + number, "PNG")


def bitmap(number: int) -> bytes:
    return _encoded(number, "BMP")


def as_files(folder: Path) -> Path:
    """The eight pictures as files below `folder`."""
    folder.mkdir(parents=True)
    for picture in eight():
        (folder / f"{picture.key}.jpg").write_bytes(picture.data)
    return folder


def _encoded(seed: int, form: str) -> bytes:
    coarse = Image.frombytes("RGB", (6, 5), random.Random(seed).randbytes(6 * 5 * 3))
    buffer = io.BytesIO()
    coarse.resize((60, 50), Image.Resampling.BICUBIC).save(buffer, form)
    return buffer.getvalue()
