"""MosaicML's MDSWriter: `python mosaic_shards.py FOLDER`."""

import importlib.util
import sys
import types
from pathlib import Path

from pictures import eight


def without_init(name: str) -> None:
    """Let the submodules of the package `name` be imported without what its own __init__ imports: transformers."""
    spec = importlib.util.find_spec(name)
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = list(spec.submodule_search_locations)


def main(folder: Path) -> None:
    without_init("streaming")
    without_init("streaming.base")
    from streaming.base.format.mds.writer import MDSWriter

    columns = {"image": "bytes", "label": "int"}
    for name, compression in {"plain": None, "zstd": "zstd"}.items():
        with MDSWriter(out=str(folder / name), columns=columns, compression=compression) as sink:
            for one in eight():
                sink.write({"image": one.data, "label": one.label})


main(Path(sys.argv[1]))
