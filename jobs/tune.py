"""Finds the fastest settings of each model by measurement on the cluster, and keeps them in the store.

    python -m jobs.tune --models resnest50d --store s3://bucket/out
    python -m jobs.tune --models all --store s3://bucket/out --precision fp32 bf16
    python -m jobs.evaluate --models resnest50d --store s3://bucket/out --data s3://bucket/val --tuned

Tries memory layouts, batch norms folded into convolutions, torch.compile and batch sizes, one line each, on synthetic
images and the bare architecture: speed does not depend on the weights, so none are needed. The precision is the user's
choice; within it, settings are rejected if their top-1 deviates more from plain fp32 than that of the plain settings,
or if they cannot run here (torch.compile needs a C++ compiler). Leaves STORE/tuning/MODEL-PRECISION-DEVICE.json, which
replaces an earlier one. A model of ResNet-50's size takes a minute or two on a CPU, most of it to compile.
Exit codes: 0 done, 2 bad arguments, 3 models that could not be tuned, each with its reason.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from rich.table import Table

import zoo
from jobs.console import cli
from jobs.console.progress import count, say
from jobs.console.tables import plain_table
from jobs.steps import cluster
from jobs.steps.options import all_cards
from pipelines import storage
from pipelines.records import Precision

if TYPE_CHECKING:
    from pipelines.models.tune import Trial, Tuning


@dataclass(frozen=True, kw_only=True)
class TuneConfig(cli.Job):
    """Find the fastest settings of models on this cluster; `jobs.evaluate --tuned` then uses them.

    The first candidate is a model's default settings. Exit codes: 0 done, 2 bad arguments, 3 models that could not be
    tuned.
    """

    models: str
    """Model names or patterns, comma-separated: `resnest50d`, `'resnest*'`, `all` (see `python -m zoo`)."""
    store: str = "output"
    """Folder or s3:// URI; the settings are kept in its subfolder `tuning`."""
    precision: tuple[Precision, ...] = ("fp32",)
    """Arithmetic; each one is tuned separately. Only GPUs have tf32; bf16 is fast if the hardware supports it."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: GPUs if the cluster has any."""
    cards: tuple[str, ...] = ()
    """Model-index files (path or URI) with cards of your own models; docs/zoo.md shows one."""
    results_file: str | None = None
    """File (path or URI) to which the measurements are also written as JSON."""


def run(config: TuneConfig) -> int:
    """Tune each model in each precision.

    Returns:
        The exit code: 0, or 3 if a model could not be tuned.

    Raises:
        ValueError: if models, precisions or the device cannot be used.
    """
    chosen = zoo.select(config.models, all_cards(config.cards, config.store))
    if not config.precision or len(set(config.precision)) < len(config.precision):
        raise ValueError(f"--precision {' '.join(config.precision)}: give one or several, each once")
    if config.results_file:
        storage.require_writable(config.results_file)
    # Ray takes seconds to load, and --help does not need it.
    from pipelines.cluster.shares import resources, share
    from pipelines.models import tune

    device = tune.device(config.device)
    for precision in config.precision:
        tune.candidates(precision, device)  # raises here, before anything is measured
    storage.probe(config.store)
    cluster.connect()
    share(*resources(), device)  # raises if the cluster has no such device
    tunings: list[Tuning] = []
    failed: dict[str, str] = {}
    for card, precision in product(chosen, config.precision):
        try:
            tunings.append(_tune(config.store, card, precision, device))
        except ValueError as error:
            failed[f"{card.name} ({precision})"] = str(error).removeprefix(f"{card.name}: ")
    return _report(config, tunings, failed)


def _tune(store: str, card: zoo.Card, precision: Precision, device: str) -> "Tuning":
    from pipelines.models import tune

    say(f"tuning   {card.name} in {precision} on {device}")
    tuning = tune.tune(card, precision, device, lambda trial: say(f"         {_trial_line(trial)}"))
    tune.save(store, card, tuning)
    say(f"fastest  {card.name}: {tuning.settings}")
    return tuning


def _trial_line(trial: "Trial") -> str:
    if trial.failure is not None:
        return f"{trial.settings}: cannot run: {trial.failure}"
    agreement = f"{trial.agreeing} of {trial.images} top-1 as plain fp32"
    return f"{trial.settings}: {trial.images_per_second:.1f} images/s, {agreement}, within {trial.difference:.1e}"


def _report(config: TuneConfig, tunings: "Sequence[Tuning]", failed: dict[str, str]) -> int:
    if tunings:
        cli.stdout.print(_tunings_table(tunings))
    if config.results_file:
        content = {"tunings": [tuning.to_json() for tuning in tunings], "failed": failed}
        storage.replace(config.results_file, json.dumps(content, indent=1).encode())
    for name, reason in failed.items():
        say(f"failed   {name}: {reason}")
    say(f"{count(len(tunings), 'tuning')} in {storage.absolute(config.store)}/tuning, {len(failed)} failed")
    return cli.UNFINISHED if failed else cli.DONE


def _tunings_table(tunings: "Sequence[Tuning]") -> Table:
    numeric = ("images/s", "plain", "speed-up", "same top-1", "difference")
    table = plain_table(("model", "fastest settings", *numeric), right=numeric)
    for tuning in tunings:
        plain = tuning.trials[0]
        best = next(trial for trial in tuning.trials if trial.settings == tuning.settings)
        assert best.images_per_second and plain.images_per_second, "a chosen trial was run"
        table.add_row(
            tuning.model,
            str(tuning.settings),
            f"{best.images_per_second:.1f}",
            f"{plain.images_per_second:.1f}",
            f"{best.images_per_second / plain.images_per_second:.2f}",
            f"{best.agreeing} of {best.images}",
            f"{best.difference:.1e}",
        )
    if tunings:
        table.caption = (
            f"images/s of one of {tunings[0].processes} concurrent processes on {tunings[0].hardware}; top-1 and the "
            "largest difference of a probability are relative to plain fp32, with random weights"
        )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(TuneConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
