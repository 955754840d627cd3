"""ImageNet as it is distributed: the validation tar with its devkit, and the training tar of tars.

Nothing is unpacked to disk: images are read from the archives, by offset. An archive that was cut short, or any count
or class that does not agree, is an error: labels that are off by one look like a bad model.
"""

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from scipy.io import loadmat  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from scipy.io.matlab import MatReadError  # pyright: ignore[reportMissingTypeStubs]

from pipelines.packing.classes import imagenet_synsets
from pipelines.packing.images import Image, sort_images
from pipelines.packing.tar_members import content, members, readable
from zoo import imagenet

GROUND_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
META = "ILSVRC2012_devkit_t12/data/meta.mat"


def validation_labels(names: Sequence[str], path: Path, devkit: Path) -> list[int]:
    """The labels of the validation images `names`, which are sorted, of the archive or folder at `path`.

    Raises:
        ValueError: if the devkit is damaged, or has labels for more or fewer images.
    """
    labels = _ground_truth(devkit)
    if len(labels) != len(names):
        raise ValueError(f"{path} holds {len(names)} images, and {devkit} has ground truth for {len(labels)}")
    return labels


def training_images(path: Path, archives: Sequence[tarfile.TarInfo]) -> list[Image]:
    """The images of ILSVRC2012_img_train.tar, the tar of tars at `path` with the members `archives`, sorted by key.

    Only headers are read: a minute or two for the 1.3 million on a local SSD.

    Raises:
        ValueError: if a member is not the tar of a synset, or was cut short.
    """
    label_of = imagenet_synsets()
    images: list[Image] = []
    with tarfile.open(path, "r:") as tar:
        for member in archives:
            synset = PurePosixPath(member.name).name.removesuffix(".tar")
            if synset not in label_of:
                raise ValueError(f"{path}: {member.name} is not the tar of one of ImageNet's 1000 synsets")
            with readable(path / member.name), tarfile.open(fileobj=tar.extractfile(member), mode="r:") as inner:
                place = {f"{synset}/{image.name}": image for image in members(inner, path / member.name)}
            names = sort_images(place, path / member.name)
            images += [image_at(path, name, label_of[synset], place[name], member.offset_data) for name in names]
    return images


def image_at(path: Path, name: str, label: int | None, member: tarfile.TarInfo, offset: int = 0) -> Image:
    """The image that is `member` of the tar at byte `offset` of the file `path`."""
    return Image(name=name, label=label, path=str(path), start=offset + member.offset_data, size=member.size)


def _ground_truth(devkit: Path) -> list[int]:
    """The labels of the validation images, in the order of their names."""
    with readable(devkit), tarfile.open(devkit, "r:gz") as tar:
        by_name = {member.name: member for member in members(tar, devkit)}
        if missing := {GROUND_TRUTH, META} - by_name.keys():
            raise ValueError(f"{devkit}: lacks {' and '.join(sorted(missing))}; expected ILSVRC2012_devkit_t12.tar.gz")
        truth, meta = (content(tar, by_name[name]) for name in (GROUND_TRUTH, META))
    label_of = _labels_by_id(meta, devkit)
    ids = truth.decode(errors="replace").split()
    for line, text in enumerate(ids, 1):
        if text not in label_of:
            raise ValueError(f"{devkit}: {GROUND_TRUTH} line {line}: {text!r} is not the id of a class in meta.mat")
    return [label_of[text] for text in ids]


def _labels_by_id(meta: bytes, devkit: Path) -> dict[str, int]:
    """The label of each ILSVRC2012_ID, as text: the devkit's order of classes is not that of models."""
    try:
        synsets = cast(Iterable[Mapping[str, Any]], loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        ids = {str(entry["WNID"]): str(int(entry["ILSVRC2012_ID"])) for entry in synsets if entry["num_children"] == 0}
    except (MatReadError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{devkit}: cannot read {META}: {error!r}") from error
    if ids.keys() != set(imagenet.synsets()):
        raise ValueError(f"{devkit}: the {len(ids)} classes without children in {META} are not ImageNet's 1000")
    return {ids[synset]: label for label, synset in enumerate(imagenet.synsets())}
