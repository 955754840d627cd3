"""webdataset's ShardWriter, a folder each variant: `python webdataset_shards.py FOLDER`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webdataset
from pictures import Picture, bitmap, eight, mask

SYNSETS = {0: "n01440764", 1: "n01443537", 2: "n01484850", 3: "n01491361"}
VARIANTS: dict[str, Callable[[int, Picture], dict]] = {
    "plain": lambda _, one: {"jpg": one.data, "cls": one.label},
    "upper": lambda _, one: {"JPEG": one.data, "cls": one.label},
    "mask": lambda number, one: {"jpg": one.data, "cls": one.label, "seg.png": mask(number)},
    "depth": lambda n, one: {"jpg": one.data, "cls": one.label, "depth.png": mask(n), "flow.png": mask(n + 50)},
    "mask_pool": lambda number, one: {"jpg": one.data, "seg.png": mask(number)},
    "two_names": lambda _, one: {"input.jpg": one.data, "output.cls": one.label},
    "json": lambda _, one: {"jpg": one.data, "json": {"label": one.label, "caption": "a cat"}},
    "json_nested": lambda _, one: {"jpg": one.data, "json": json.dumps({"target": one.label}).encode()},
    "txt": lambda _, one: {"jpg": one.data, "txt": f"{one.label}\n"},
    "index": lambda _, one: {"jpg": one.data, "index": one.label},
    "synset": lambda _, one: {"jpg": one.data, "cls": SYNSETS.get(one.label, str(one.label)).encode()},
    "numpy_cls": lambda _, one: {"jpg": one.data, "cls": np.int64(one.label)},
    "dotted": lambda _, one: {"__key__": f"val/n0.v1/{one.key}", "jpg": one.data, "cls": one.label},
    "dotted_mask": lambda number, one: {
        "__key__": f"val/n0.v1/{one.key}",
        "jpg": one.data,
        "cls": one.label,
        "seg.png": mask(number),
    },
    "bmp_pool": lambda number, one: {"bmp": bitmap(number)} if number % 2 else {"jpg": one.data},
    "gz": lambda _, one: {"jpg": one.data, "cls": one.label},
}


def main(folder: Path) -> None:
    for name, sample in VARIANTS.items():
        (folder / name).mkdir(parents=True)
        ending = "tar.gz" if name == "gz" else "tar"
        with webdataset.ShardWriter(str(folder / name / f"val-%06d.{ending}"), maxcount=5, verbose=0) as sink:
            for number, one in enumerate(eight()):
                sink.write({"__key__": one.key, **sample(number, one)})


main(Path(sys.argv[1]))
