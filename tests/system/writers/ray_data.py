"""Ray Data's writers, a folder each variant: `python ray_data.py FOLDER`."""

import io
import sys
from pathlib import Path

import numpy as np
import ray
from pictures import Picture, as_files, eight
from PIL import Image


def _pixels(one: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(one.data)))


def main(folder: Path) -> None:
    files = str(as_files(folder / "files"))
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.read_images(files, include_paths=True).write_parquet(str(folder / "tensors"))
    ray.data.read_binary_files(files, include_paths=True).write_parquet(str(folder / "binary"))
    samples = [{"__key__": one.key, "jpg": _pixels(one), "cls": one.label} for one in eight()]
    ray.data.from_items(samples).write_webdataset(str(folder / "webdataset"))


main(Path(sys.argv[1]))
