"""The photographs of the quickstart: those in installed packages, or the user's own folder.

`photos.csv` names the photographs in packages. Their labels were given by looking at the image, never at a model's
answer; images that show nothing ImageNet has a class for (a dahlia, a motorcycle, coins) are left out.
"""

import csv
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pipelines import storage
from pipelines.data.suffixes import IMAGE_SUFFIXES
from pipelines.records import short_digest
from zoo import imagenet

LABELS = "labels.csv"
"""The file with the labels (key,label) in a folder of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A photograph at `path` in an installed package, and the ImageNet class that a person sees in it."""

    package: str
    path: str
    class_name: str
    why: str

    @property
    def label(self) -> int:
        """The number of the class."""
        return imagenet.class_names().index(self.class_name)

    @property
    def file(self) -> Path:
        """The file on this machine; the package is not imported, since that may take seconds.

        Raises:
            FileNotFoundError: if the package is not installed or has no such file.
        """
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (file := Path(folder, self.path)).is_file():
                return file
        raise FileNotFoundError(
            f"the photograph {self.path} of the package {self.package} is not installed; "
            "pip install 'menagerie[quickstart]', or give a folder of images with --data"
        )


def photos() -> list[Photo]:
    """The photographs that `photos.csv` names."""
    text = resources.files("jobs.quickstart").joinpath("photos.csv").read_text(encoding="utf-8")
    return [Photo(**row) for row in csv.DictReader(text.splitlines())]


def stage_photos(folder: str) -> str:
    """Copy the photographs and their labels into `folder`, laid out as a user's own folder would be."""
    chosen = photos()
    rows = [f"{photo.file.stem},{photo.label}\n" for photo in chosen]
    files = {photo.file.name: photo.file.read_bytes() for photo in chosen}
    for name, content in {**files, LABELS: "".join(["key,label\n", *rows]).encode()}.items():
        uri = storage.join(folder, name)
        if not storage.exists(uri) or storage.read(uri) != content:
            storage.replace(uri, content)
    return folder


def own_folder(data: str, output: str) -> str:
    """The path of the user's folder `data`, once its labels are known to be ImageNet's.

    Raises:
        FileNotFoundError: if it does not exist on this machine.
        ValueError: if it has no image or other classes than ImageNet's, or if `output` is inside it.
    """
    folder = storage.local_path(data)
    if storage.is_remote(data) or not folder.is_dir():
        raise FileNotFoundError(f"--data {data}: no such folder on this machine")
    if Path(output).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--output {output} is inside --data {data} and would change its images; choose another")
    names = [name for name, _, _ in _image_entries(str(folder))]
    if not set(names) - {LABELS}:
        raise ValueError(f"--data {data}: no image ({', '.join(IMAGE_SUFFIXES)}) in it")
    if LABELS not in names and all("/" in name for name in names):
        _require_synsets(data, sorted({name.partition("/")[0] for name in names}))
    return str(folder)


def _require_synsets(data: str, classes: Sequence[str]) -> None:
    """Raise if folders are not ImageNet's synsets: their positions would be taken for its labels."""
    if other := [name for name in classes if name not in imagenet.synsets()]:
        raise ValueError(
            f"--data {data}: the folder {other[0]!r} is not an ImageNet synset (like n02123045), so the labels of its "
            f"images are not known; add a {LABELS} (key,label from 0 to 999), or put the images into no folder to get "
            "predictions only"
        )


def shards_folder(folder: str, output: str) -> str:
    """The folder for the shards of `folder`: another one after a change, since shards are never overwritten."""
    name = re.sub(r"[^\w.-]+", "_", Path(folder).resolve().name) or "data"  # braces and stars would be patterns
    return storage.join(output, "shards", short_digest(_image_entries(folder)), name)


def _image_entries(folder: str) -> list[tuple[str, int, str]]:
    """Path below `folder`, size and time of its images and of its labels."""
    suffixes = tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES)
    found = [(entry.uri.removeprefix(f"{folder}/"), entry.size, entry.etag) for entry in storage.list_objects(folder)]
    return [entry for entry in found if entry[0] == LABELS or entry[0].lower().endswith(suffixes)]
