"""The first run: images that are on this machine already, or your own, through the real commands to results.

    python -m jobs.quickstart
    python -m jobs.quickstart --part digits
    python -m jobs.quickstart --data photos

Each command is printed and run. First a model is evaluated on photographs, and the five most probable classes of each
are shown; then a student is trained on handwritten digits, from a few labels to a leaderboard. The same command again
finds everything done and prints the same.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import zoo
from jobs.console import cli
from jobs.quickstart import digits, photographs
from jobs.quickstart.commands import mlflow_command, print_places, python_path, run_command
from jobs.quickstart.predictions import print_predictions
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.data.dataset import find_dataset
from pipelines.models import members
from pipelines.storage.layout import Folder
from zoo.weights import wanted

_MODEL = "efficientnet_lite0"
_SAMPLES_PER_SHARD = "100"
_LABELLED = 50
"""Digits with a label, five of each class."""


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig(cli.Job):
    """Run every step once: evaluate a model on photographs, and train a student on handwritten digits."""

    data: str | None = None
    """Folder of your images: with a `labels.csv` (key,label), with one subfolder per ImageNet synset, or unlabelled."""
    part: Literal["all", "photographs", "digits"] = "all"
    """Run only one part; your own images are photographs."""
    output: str = "quickstart"
    """Folder for all shards, results and models."""


def run(config: QuickstartConfig) -> int:
    """Pack, evaluate, show; then train on digits.

    Returns:
        The exit code: 0, or that of the first command that failed.

    Raises:
        ValueError: if the folder of images cannot be used.
        FileNotFoundError: if it, or a package with photographs, does not exist.
    """
    if storage.is_remote(config.output):
        raise ValueError(f"--output {config.output}: expected a local folder")
    if config.data and config.part == "digits":
        raise ValueError("--part digits: has its own images; leave out --data")
    output = str(storage.local_path(config.output))
    if config.part != "digits" and (code := _evaluate_photographs(config.data, output)):
        return code
    if config.data or config.part == "photographs":
        return cli.DONE
    return _train_on_digits(storage.join(output, "digits"))


def _evaluate_photographs(data: str | None, output: str) -> int:
    """Pack the images of `data`, or those of installed packages, and evaluate a model; returns the exit code."""
    staged = storage.join(output, "photos")
    folder = photographs.own_folder(data, output) if data else photographs.stage_photos(staged)
    packed, store = photographs.shards_folder(folder, output), storage.join(output, "store")
    has_labels = Path(folder, photographs.LABELS).is_file()
    labels = ["--labels", f"{folder}/{photographs.LABELS}"] if has_labels else []
    pack = ["--images", folder, *labels, "--output", packed, "--samples-per-shard", _SAMPLES_PER_SHARD]
    evaluate = ["--models", _MODEL, "--data", packed, "--store", store]
    if code := run_command("pack_shards", pack) or run_command("evaluate", evaluate):
        return code
    dataset = find_dataset([packed])
    column = Column(card=zoo.card(_MODEL), file=wanted.published(zoo.card(_MODEL)))
    print_predictions(store, dataset, column)
    report = storage.join(store, Folder.REPORTS, f"{dataset.name}-{dataset.digest}")
    print_places(
        report=f"{report}/results.csv",
        **{"reliability diagram": f"{report}/{column.name}/reliability.png", "MLflow page": mlflow_command(store)},
        **{"your own images": f"{python_path()} -m jobs.quickstart --data FOLDER"},
        **{"other models": f"{python_path()} -m zoo"},
    )
    return cli.DONE


def _train_on_digits(output: str) -> int:
    """Train a teacher, a baseline and a student on digits and compare them; returns the exit code."""
    if code := digits.run_steps(output, _LABELLED, 0, run_command):
        return code
    folder = digits.home(output, _LABELLED, 0)
    store = storage.join(folder, "store")
    student = digits.member(store, "student")
    cli.stdout.print()
    print_places(
        leaderboard=f"{folder}/board/leaderboard.html",
        **{"student's card": members.uri(store, student), "its curves": f"{store}/training/{student}/curves.png"},
        **{"chosen digits": f"{folder}/shards/selection/sheets", "MLflow page": mlflow_command(store)},
    )
    return cli.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(QuickstartConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
