"""The first run: pictures that are on this machine already, or your own, through the real commands to a result.

    python -m jobs.quickstart
    python -m jobs.quickstart --part digits
    python -m jobs.quickstart --data photos

Owns the walk of a newcomer: each command is shown and run. First photographs are evaluated, with the top five of each;
then handwritten digits go the whole way from a few labels to a student and its leaderboard, see `jobs.digits`. Without
--data it takes photographs that ship inside installed packages. `photos.csv` names them, with labels
given by looking at the picture, never at a model's answer; those that show nothing which ImageNet names (a dahlia, a
motorcycle, coins) are left out. Refuses folders of classes that are not ImageNet's, since their positions would be
taken for its labels. The same command again finds everything done and shows the same.
"""

import csv
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import zoo
from jobs.console import cli, signals
from jobs.quickstart import digits
from pipelines import storage
from pipelines.cells.cell import load_cells
from pipelines.cells.column import Column
from pipelines.data.dataset import find_dataset
from pipelines.data.formats import IMAGE_SUFFIXES
from pipelines.models import members
from pipelines.records import short_digest
from pipelines.storage.layout import Folder
from zoo import imagenet
from zoo.weights import wanted

_MODEL = "efficientnet_lite0"
_SAMPLES_PER_SHARD = "100"
_SHOWN = 20
"""Pictures whose predictions are printed; a table of thousands would hide what comes after it."""
_LABELS = "labels.csv"
_LABELLED = 50
"""Digits that have a label, five of each class."""


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig(cli.Job):
    """See every step once: a model is evaluated on photographs, and a student is trained on handwritten digits."""

    data: str | None = None
    """Folder of your images: with a `labels.csv` (key,label), with a folder for each ImageNet synset, or unlabelled."""
    part: Literal["all", "photographs", "digits"] = "all"
    """One half alone; your own images are photographs."""
    output: str = "quickstart"
    """Folder for everything that is made."""


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
        """Where it is on this machine; the package is not imported, since that may take seconds.

        Raises:
            FileNotFoundError: if the package is not installed or has no such file.
        """
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (file := Path(folder, self.path)).is_file():
                return file
        raise FileNotFoundError(
            f"the photograph {self.path} of the package {self.package} is not there; "
            "pip install 'menagerie[quickstart]', or give a folder of images with --data"
        )


def run(config: QuickstartConfig) -> int:
    """Pack, evaluate, show.

    Returns:
        The exit code: 0, or that of the command which did not succeed.

    Raises:
        ValueError: if the folder of images cannot be used.
        FileNotFoundError: if it, or a package with photographs, is not there.
    """
    if storage.is_remote(config.output):
        raise ValueError(f"--output {config.output}: expected a local folder")
    if config.data and config.part == "digits":
        raise ValueError("--part digits: is of pictures of its own; leave out --data")
    output = str(storage.local_path(config.output))
    if config.part != "digits" and (code := _photographs(config, output)):
        return code
    if config.data or config.part == "photographs":
        return cli.DONE
    return _digits(storage.join(output, "digits"))


def _photographs(config: QuickstartConfig, output: str) -> int:
    folder = _own(config.data, output) if config.data else _stage(storage.join(output, "photos"))
    packed, store = _packed(folder, output), storage.join(output, "store")
    labels = ["--labels", f"{folder}/{_LABELS}"] if Path(folder, _LABELS).is_file() else []
    pack = ["--images", folder, *labels, "--output", packed, "--samples-per-shard", _SAMPLES_PER_SHARD]
    evaluate = ["--models", _MODEL, "--data", packed, "--store", store]
    if code := _run("pack_shards", pack) or _run("evaluate", evaluate):
        return code
    _show(packed, store)
    return cli.DONE


def _digits(output: str) -> int:
    if code := digits.story(output, _LABELLED, 0, _run):
        return code
    folder, store = digits.home(output, _LABELLED, 0), storage.join(digits.home(output, _LABELLED, 0), "store")
    student = digits.member(store, "student")
    cli.stdout.print()
    _say_where(
        leaderboard=f"{folder}/board/leaderboard.html",
        **{"student's card": members.uri(store, student), "its curves": f"{store}/training/{student}/curves.png"},
        **{"chosen digits": f"{folder}/shards/selection/sheets", "MLflow page": _mlflow(store)},
    )
    return cli.DONE


def photos() -> list[Photo]:
    """The photographs that `photos.csv` names."""
    text = resources.files("jobs.quickstart").joinpath("photos.csv").read_text(encoding="utf-8")
    return [Photo(**row) for row in csv.DictReader(text.splitlines())]


def _stage(folder: str) -> str:
    """The shipped photographs and their labels in `folder`, laid out as a user's own would be."""
    chosen = photos()
    rows = [f"{photo.file.stem},{photo.label}\n" for photo in chosen]
    files = {photo.file.name: photo.file.read_bytes() for photo in chosen}
    for name, content in {**files, _LABELS: "".join(["key,label\n", *rows]).encode()}.items():
        uri = storage.join(folder, name)
        if not storage.exists(uri) or storage.read(uri) != content:
            storage.replace(uri, content)
    return folder


def _own(data: str, output: str) -> str:
    """The user's folder, if its labels can be those of the model."""
    folder = storage.local_path(data)
    if storage.is_remote(data) or not folder.is_dir():
        raise FileNotFoundError(f"--data {data}: no such folder on this machine")
    if Path(output).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--output {output} lies in --data {data}, whose images would change by it; choose another")
    names = [name for name, _, _ in _files(str(folder))]
    if not set(names) - {_LABELS}:
        raise ValueError(f"--data {data}: no image ({', '.join(IMAGE_SUFFIXES)}) in it")
    if _LABELS not in names and all("/" in name for name in names):
        _refuse_other_classes(data, sorted({name.partition("/")[0] for name in names}))
    return str(folder)


def _refuse_other_classes(data: str, classes: Sequence[str]) -> None:
    if other := [name for name in classes if name not in imagenet.synsets()]:
        raise ValueError(
            f"--data {data}: the folder {other[0]!r} is no ImageNet synset (like n02123045), so its images' labels are "
            f"not known; give a {_LABELS} (key,label from 0 to 999), or images without folders for predictions alone"
        )


def _files(folder: str) -> list[tuple[str, int, str]]:
    """Path below `folder`, size and time of its images and of its labels."""
    suffixes = tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES)
    found = [(entry.uri.removeprefix(f"{folder}/"), entry.size, entry.etag) for entry in storage.list_objects(folder)]
    return [entry for entry in found if entry[0] == _LABELS or entry[0].lower().endswith(suffixes)]


def _packed(folder: str, output: str) -> str:
    """Where the shards of `folder` go: another place when it has changed, since shards are never written over."""
    name = re.sub(r"[^\w.-]+", "_", Path(folder).resolve().name) or "data"  # braces and stars would be patterns
    return storage.join(output, "shards", short_digest(_files(folder)), name)


def _run(job: str, options: Sequence[str]) -> int:
    """Show and run a job as its own command; returns its exit code."""
    cli.stdout.print(f"\n$ {shlex.join([_python(), '-m', f'jobs.{job}', *options])}", markup=False, soft_wrap=True)
    with subprocess.Popen([sys.executable, "-m", f"jobs.{job}", *options]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            if signals.by_sigterm():
                process.terminate()  # it was for us alone
                raise
            return process.wait()  # Ctrl-C reached the job too, which stops by itself and says so


def _python() -> str:
    """This interpreter as one would type it here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _show(packed: str, store: str) -> None:
    """The predictions from their committed cells, then where everything is."""
    dataset = find_dataset([packed])
    column = Column(card=zoo.card(_MODEL), file=wanted.published(zoo.card(_MODEL)))
    rows = (row for _, cell in load_cells(store, dataset, column) for row in cell.to_pylist())
    cli.stdout.print()
    cli.stdout.print(_predictions(islice(rows, _SHOWN)))
    cli.stdout.print()
    if (more := sum(shard.rows or 0 for shard in dataset.shards) - _SHOWN) > 0:
        cli.stdout.print(f"and {more:,} more pictures, whose predictions are in {store}/cells\n")
    report = storage.join(store, Folder.REPORTS, f"{dataset.name}-{dataset.digest}")
    _say_where(
        report=f"{report}/results.csv",
        **{"reliability diagram": f"{report}/{column.name}/reliability.png", "MLflow page": _mlflow(store)},
        **{"your own images": f"{_python()} -m jobs.quickstart --data FOLDER", "other models": f"{_python()} -m zoo"},
    )


def _mlflow(store: str) -> str:
    """The command that shows what was tracked."""
    database = f"sqlite:///{Path(store, 'mlflow.db').absolute()}"
    return f"{_python()} -m mlflow ui --backend-store-uri {shlex.quote(database)}"


def _say_where(**places: str) -> None:
    for what, where in places.items():
        cli.stdout.print(f"{what:<20} {where}", markup=False, soft_wrap=True)


def _predictions(rows: Iterable[dict[str, Any]]) -> Table:
    """A line or more a picture: its label and the five most probable classes, the label's own in bold."""
    names = imagenet.class_names()
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("picture", "label", "top five"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        label = row["label"]
        table.add_row(Text(row["key"]), "" if label is None else names[label], _top_five(row, names))
    return table


def _top_five(row: dict[str, Any], names: Sequence[str]) -> Text:
    if row["error"]:
        return Text(row["error"])
    top = zip(row["classes"][:5], row["probs"][:5], strict=True)
    parts = [
        (f"{names[index]} {probability:.1%}", "bold" if index == row["label"] else "") for index, probability in top
    ]
    return Text(", ").join(Text(part, style=style) for part, style in parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(QuickstartConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
