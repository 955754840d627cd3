"""Lists, verifies, fetches and mirrors the weights of the zoo's models.

    python -m jobs.weights list
    python -m jobs.weights fetch  --models 'resnest50*'
    python -m jobs.weights mirror --models all --store s3://bucket/out
    python -m jobs.weights mirror --models sknet50 --checkpoint SKNet50.caffemodel --store s3://bucket/out
    python -m jobs.weights verify --models all --store s3://bucket/out

`fetch` copies files into this machine's cache; `mirror` copies them into STORE/weights, where every node of a cluster
finds them, with a lock file that pins the full SHA-256. `verify` hashes the file on this machine or in the store and
loads it into its architecture.
Exit codes: 0 done, 2 bad arguments, 3 models without valid weights, each with its reason.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import tyro
from rich.table import Table

import zoo
from jobs.console import cli
from jobs.console.progress import Transfer, count, say
from jobs.console.tables import plain_table
from jobs.steps.options import all_cards
from jobs.steps.plan_summary import say_steps
from pipelines import storage
from pipelines.models import mirror
from zoo.weights import cache
from zoo.weights.wanted import Wanted

Action = Literal["list", "verify", "fetch", "mirror"]


@dataclass(frozen=True, kw_only=True)
class WeightsConfig(cli.Job):
    """List, verify, fetch or mirror the weights that the zoo's cards name.

    Exit codes: 0 done, 2 bad arguments, 3 models without valid weights.
    """

    action: Annotated[Action, tyro.conf.Positional]
    """`list` the files and where they are, `verify` them, `fetch` them to this machine, `mirror` them into a store."""
    models: str = "all"
    """Model names or patterns, comma-separated (see `python -m zoo`)."""
    store: str | None = None
    """Folder or s3:// URI whose subfolder `weights` is the mirror."""
    checkpoint: str | None = None
    """Weights (path or URI) of the one model of --models, if the location in its card cannot be fetched from."""
    weights_key: str | None = None
    """The set of weights in --checkpoint, where it holds several: `state_dict`, `state_dict_ema`."""
    cards: tuple[str, ...] = ()
    """Model-index files (path or URI) with cards of your own models; docs/zoo.md shows one."""
    results_file: str | None = None
    """File (path or URI) to which the table is also written as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model's weights: `where` they are, and `failure`, why they cannot be used."""

    model: str
    file: str
    sha256: str | None
    size: int | None
    license: str | None
    where: str
    failure: str | None = None


def run(config: WeightsConfig) -> int:
    """Do the action for each model.

    Returns:
        The exit code: 0, or 3 if a model has no valid weights.

    Raises:
        ValueError: if options do not go together or a model is unknown.
    """
    chosen = zoo.select(config.models, all_cards(config.cards, config.store))
    _check(config, chosen)
    action: Callable[[WeightsConfig, zoo.Card], Row] = {
        "list": _list,
        "verify": _verify,
        "fetch": _fetch,
        "mirror": _mirror,
    }[config.action]
    rows = [_row(config, card, action) for card in chosen]
    cli.stdout.print(_weights_table(rows))
    if config.results_file:
        storage.replace(config.results_file, json.dumps({"weights": [asdict(row) for row in rows]}, indent=1).encode())
    failed = [row for row in rows if row.failure]
    for row in failed:
        say(f"failed   {row.model}: {row.failure}")
    if config.action != "list":
        say(f"{count(len(rows) - len(failed), 'model')} with valid weights, {len(failed)} without")
    return cli.UNFINISHED if failed else cli.DONE


def _check(config: WeightsConfig, chosen: Sequence[zoo.Card]) -> None:
    if config.action == "mirror" and not config.store:
        raise ValueError("mirror: needs --store, the folder or s3:// URI to mirror into")
    if config.checkpoint and (len(chosen) > 1 or config.action == "list"):
        given = f"{config.action} of {count(len(chosen), 'model')}"
        raise ValueError(f"--checkpoint {config.checkpoint}: goes with one model and not with list; this is {given}")
    if config.weights_key and not config.checkpoint:
        raise ValueError(f"--weights-key {config.weights_key}: goes with --checkpoint")
    if config.checkpoint and "://" not in config.checkpoint and not Path(config.checkpoint).is_file():
        raise FileNotFoundError(f"--checkpoint {config.checkpoint}: no such file")
    if config.results_file:
        storage.require_writable(config.results_file)


def _row(config: WeightsConfig, card: zoo.Card, action: Callable[[WeightsConfig, zoo.Card], Row]) -> Row:
    """The row that `action` returns, or one with the reason why it failed, so that the other models continue."""
    try:
        return action(config, card)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"{card.name}: ")
        return replace(_row_without_digest(config, card), failure=reason)


def _list(config: WeightsConfig, card: zoo.Card) -> Row:
    locked = config.store and mirror.read_lock(config.store, card)
    if not locked and (card.weights is None or card.weights.sha256 is None):
        return _row_without_digest(config, card)
    file = mirror.find(config.store, card)
    return _row_of_file(card, file, _location(config, file))


def _row_without_digest(config: WeightsConfig, card: zoo.Card) -> Row:
    """The row of a model whose file has no known digest: its location in place of its name."""
    known = None if config.checkpoint else card.weights
    place = config.checkpoint or (known.location if known else "none published")
    return Row(
        model=card.name,
        file=f"at {urlsplit(place).hostname}" if "://" in place else place.rpartition("/")[2],
        sha256=known.sha256 if known else None,
        size=known.size if known else None,
        license=card.weights.license if card.weights else None,
        where="not locked" if known else "absent",
    )


def _verify(config: WeightsConfig, card: zoo.Card) -> Row:
    file = mirror.find(config.store, card, config.checkpoint, config.weights_key)
    here = cache.at_hand(file)
    if config.checkpoint:
        mirror.verify(config.checkpoint, file)
    elif config.store:
        mirror.verify(mirror.uri(config.store, file), file)
    elif here:
        mirror.verify(str(here), file)
    else:
        raise FileNotFoundError("not on this machine")
    say_steps(card.name, mirror.check(card, file))
    return _row_of_file(card, file, _location(config, file))


def _fetch(config: WeightsConfig, card: zoo.Card) -> Row:
    file = mirror.find(config.store, card, config.checkpoint, config.weights_key)
    if not mirror.is_near(file):
        say(f"fetching {file.file}")
    with Transfer(file.file) as transfer:
        mirror.obtain(file, transfer.update)
    say_steps(card.name, mirror.check(card, file))
    return _row_of_file(card, file, _location(config, file))


def _mirror(config: WeightsConfig, card: zoo.Card) -> Row:
    assert config.store
    with Transfer(card.name) as transfer:
        lock = mirror.mirror(config.store, card, config.checkpoint, transfer.update, config.weights_key)
    return Row(
        model=card.name,
        file=lock.file,
        sha256=lock.sha256,
        size=lock.size,
        license=card.weights.license if card.weights else None,
        where="store",
    )


def _row_of_file(card: zoo.Card, file: Wanted, where: str) -> Row:
    known, here = card.weights, cache.at_hand(file)
    return Row(
        model=card.name,
        file=file.file,
        sha256=file.sha256,
        size=here.stat().st_size if here else known.size if known else None,
        license=known.license if known else None,
        where=where,
    )


def _location(config: WeightsConfig, file: Wanted) -> str:
    if config.store and storage.exists(mirror.uri(config.store, file)):
        return "store"
    here = cache.at_hand(file)
    return "absent" if here is None else "cache" if here.parent == cache.folder() else "installed"


def _weights_table(rows: Sequence[Row]) -> Table:
    table = plain_table(("model", "file", "SHA-256", "MB", "licence", "where"), right=("MB",), whole=("file",))
    for row in rows:
        size = f"{row.size / 1e6:,.1f}" if row.size else ""
        where = "FAILED" if row.failure else row.where
        table.add_row(row.model, row.file, (row.sha256 or "")[:8], size, row.license or "not stated", where)
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(WeightsConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
