"""Makes the leaderboard of a store's committed cells, with a verdict on each published number, or compares two sides.

    python -m jobs.leaderboard --store s3://bucket/out --output board
    python -m jobs.leaderboard --store out --output board --models 'resnest*' --fail-on-mismatch
    python -m jobs.leaderboard --store out --output board --diff precision=fp32 precision=bf16
    python -m jobs.leaderboard --store out --output board --diff out /other/store

A student that was trained here is compared image by image with its teacher and the baselines of its architecture.
Neither the data nor Ray, torch or a GPU is needed. Leaves leaderboard.html (one self-contained file), .csv, .json,
model-index.yaml and, if there are students, students.json in OUTPUT and in an MLflow run; with --diff, diff.json and
flips.parquet instead. Exit codes: 0 done, 2 bad arguments or an empty store, 4 with --fail-on-mismatch if a claim is
not reproduced.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text

import zoo
from jobs.console import cli
from jobs.console.progress import Listing, Meter, count, say
from jobs.steps import leaderboard_tracking
from jobs.steps.options import all_cards
from pipelines import storage

if TYPE_CHECKING:
    from pipelines.cells.inventory import Holding
    from pipelines.leaderboard.board import Board
    from pipelines.leaderboard.diff import Difference
    from pipelines.leaderboard.pairs import Pair


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig(cli.Job):
    """Make the leaderboard of a store from its committed cells, or compare two sides image by image.

    Exit codes: 0 done, 2 bad arguments or nothing evaluated, 4 with --fail-on-mismatch if a claim is not reproduced.
    """

    store: str = "output"
    """Folder or s3:// URI that `jobs.evaluate` filled."""
    output: str
    """Folder or s3:// URI for leaderboard.html, .csv, .json and model-index.yaml."""
    models: str = "all"
    """Model names or patterns, comma-separated (see `python -m zoo`)."""
    cards: tuple[str, ...] = ()
    """Model-index files (path or URI) with cards of your own models; docs/zoo.md shows one."""
    datasets: tuple[str, ...] = ()
    """YAML files (path or URI) that define your own evaluation sets; docs/claims.md shows one."""
    diff: tuple[str, str] | None = None
    """Compare two sides image by image instead.
    A side is another store, a setting (`precision=bf16`), or a column (`resnest50d-528c19ca-1a2b3c4d`)."""
    fail_on_mismatch: bool = False
    """Exit with 4 if a judged claim is not reproduced, or if no claim could be judged."""
    tracking_uri: str | None = None
    """MLflow server, read for images per second and given a run of the leaderboard; `none` for no tracking.
    The default is the file mlflow.db in the store, or in the working directory if the store is s3://."""
    results_file: str | None = None
    """File (path or URI) to which leaderboard.json, or diff.json, is also written."""


def run(config: LeaderboardConfig) -> int:
    """Fold the committed cells into a leaderboard or a comparison; show, write and track it.

    Returns:
        The exit code.

    Raises:
        ValueError: if the store holds nothing, or there is nothing to compare.
    """
    from pipelines.cells import inventory

    if config.diff and config.fail_on_mismatch:
        raise ValueError("--fail-on-mismatch judges claims and --diff judges none; leave one of them out")
    for target in (storage.join(config.output, "leaderboard.json"), config.results_file):
        if target:
            storage.require_writable(target)
    holdings = inventory.holdings(config.store, Listing())
    if not holdings:
        raise ValueError(
            f"--store {config.store}: nothing is evaluated there; `jobs.evaluate --store {config.store}` fills it"
        )
    return _compare(config, config.diff, holdings) if config.diff else _rank(config, holdings)


def _rank(config: LeaderboardConfig, holdings: "Sequence[Holding]") -> int:
    from pipelines.leaderboard import board, diff_report, exports, page
    from pipelines.leaderboard.sets import leaderboard_sets

    cards = zoo.select(config.models, all_cards(config.cards, config.store))
    sets = leaderboard_sets(holdings, config.datasets)
    logged = leaderboard_tracking.logged_runs(config.tracking_uri, config.store)
    speed = partial(leaderboard_tracking.images_per_second, logged=logged)
    with Meter("columns", sum(len(board.comparable(held.columns)) for held in holdings)) as meter:
        made = board.build(holdings, sets, cards, speed, meter.update)
    if not made.rows:
        raise ValueError(f"--models {config.models}: none of these has a cell in {config.store}")
    for title, table in exports.tables(made):
        cli.stdout.print("", Text(title, style="bold"), table, sep="\n")
    compared = _student_comparisons(holdings, cards)
    if compared:
        table = diff_report.table(compared)
        cli.stdout.print("", Text("students (B) against teachers and baselines (A)", style="bold"), table, sep="\n")
    files = {
        "leaderboard.html": page.render(made, [diff_report.sentence(one) for one in compared]),
        "leaderboard.csv": exports.csv_bytes(made),
        "leaderboard.json": exports.json_bytes(made),
        "model-index.yaml": exports.model_index(made),
    }
    if compared:
        files["students.json"] = diff_report.diff_json(compared)
    _write(config, files, "leaderboard.json")
    _say_notes(made, holdings)
    leaderboard_tracking.log_leaderboard(config.tracking_uri, config.store, files)
    return _judge(config, made)


def _student_comparisons(holdings: "Sequence[Holding]", cards: Sequence[zoo.Card]) -> "list[Difference]":
    """Each student of the store, compared with its teacher and with the baselines of its architecture."""
    from pipelines.leaderboard import diff
    from pipelines.leaderboard.pairs import related_pairs

    compared = []
    for pair in related_pairs(holdings, cards):
        try:
            compared.append(diff.compare(pair, {}))
        except ValueError as error:  # a damaged cell prevents one comparison, not the others
            say(f"warning: not compared: {error}")
    return compared


def _compare(config: LeaderboardConfig, names: tuple[str, str], holdings: "Sequence[Holding]") -> int:
    from pipelines.leaderboard import diff, diff_report

    pairs = _pairs(config, names, holdings)
    stores = {column.store for pair in pairs for column in (pair.a, pair.b)}
    logged = {store: leaderboard_tracking.logged_runs(config.tracking_uri, store) for store in stores}
    differences: list[Difference] = []
    with Meter("pairs", len(pairs)) as meter:
        for pair in pairs:
            differences.append(diff.compare(pair, leaderboard_tracking.environment_differences(pair, logged)))
            meter.update(len(differences))
    cli.stdout.print(diff_report.table(differences))
    for line in diff_report.lines(differences):
        cli.stdout.print(line, markup=False, soft_wrap=True)
    files = {"diff.json": diff_report.diff_json(differences), "flips.parquet": diff_report.flips_parquet(differences)}
    _write(config, files, "diff.json")
    return cli.DONE


def _pairs(config: LeaderboardConfig, names: tuple[str, str], holdings: "Sequence[Holding]") -> "list[Pair]":
    """The pairs of columns that the two sides of --diff have in common."""
    from pipelines.cells import inventory
    from pipelines.leaderboard.pairs import is_within_store, pair_columns, select_side

    other_stores = [name for name in names if not is_within_store(name, holdings)]
    models = {card.name for card in zoo.select(config.models, all_cards(config.cards, config.store))}
    found = {name: inventory.holdings(name, Listing()) for name in other_stores}
    for name, held in found.items():
        if not held:
            raise ValueError(f"--diff {name}: neither a store with cells nor a column or setting of {config.store}")
    a, b = (select_side(name, found.get(name, holdings)) for name in names)
    pairs = [pair for pair in pair_columns(a, b) if config.models == "all" or pair.a.model in models]
    if not pairs:
        raise ValueError(f"--models {config.models}: no pair of these is on both sides of --diff")
    return pairs


def _write(config: LeaderboardConfig, files: Mapping[str, bytes], results: str) -> None:
    for name, content in files.items():
        storage.replace(storage.join(config.output, name), content)
    if config.results_file:
        storage.replace(config.results_file, files[results])
    say(f"written  {', '.join(files)} in {config.output}")


def _say_notes(made: "Board", holdings: "Sequence[Holding]") -> None:
    if made.absent:
        names = ", ".join(card.name for card in made.absent)
        say(f"note     {count(len(made.absent), 'card')} without a cell: {names}")
    known = {row.model for row in made.rows} | {card.name for card in made.absent}
    others = sorted({column.model for held in holdings for column in held.columns} - known)
    if others:
        say(f"note     left out, not among --models and --cards: {', '.join(others)}")
    for note in made.notes:
        say(f"warning: {note}")


def _judge(config: LeaderboardConfig, made: "Board") -> int:
    """Print the verdicts on claims; returns the exit code. If no claim was judged, none was reproduced."""
    judged = [
        (row, entry, verdict) for row in made.rows for entry in row.entries.values() for verdict in entry.verdicts
    ]
    words = Counter(verdict.word for _, _, verdict in judged)
    counts = ", ".join(f"{number} {word}" for word, number in sorted(words.items()))
    say(f"claims   {counts or 'none on these sets; jobs.evaluate --dataset names the set that data is a copy of'}")
    for row, entry, verdict in judged:
        if verdict.is_mismatch:
            say(f"differs  {row.model} {row.column.mode} on {entry.set.title}: {verdict}")
    holds = words["reproduced"] and not words["differs"]
    return cli.MISMATCH if config.fail_on_mismatch and not holds else cli.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(LeaderboardConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
