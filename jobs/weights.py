"""The weights of the zoo: what there is, whether it is right, and getting it to where it is needed.

    python -m jobs.weights list
    python -m jobs.weights fetch  --models 'resnest50*'
    python -m jobs.weights mirror --models all --store s3://bucket/out
    python -m jobs.weights mirror --models sknet50 --checkpoint SKNet50.caffemodel --store s3://bucket/out
    python -m jobs.weights verify --models all --store s3://bucket/out

`fetch` brings files to this machine's cache, `mirror` into STORE/weights with a lock that pins the whole SHA-256, where
every node of a cluster finds them; `verify` hashes what is here or in the store and loads it into its architecture.
Exit codes: 0 done, 2 bad arguments, 3 finished with models that have no right weights, each with its reason.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

import zoo
from jobs.console import cli
from jobs.console.progress import Transfer, count, say
from jobs.steps.cards import all_cards
from pipelines import storage
from pipelines.models import mirror
from zoo.weights import cache
from zoo.weights.wanted import Wanted

_FAILED = 3
Action = Literal["list", "verify", "fetch", "mirror"]


@dataclass(frozen=True, kw_only=True)
class WeightsConfig(cli.Job):
    """List, verify, fetch or mirror the files of weights that the zoo's cards name."""

    action: Annotated[Action, tyro.conf.Positional]
    """`list` what is known and at hand, `verify` it, `fetch` to this machine, `mirror` into a store."""
    models: str = "all"
    """Names or patterns, comma-separated (see `python -m zoo`)."""
    store: str | None = None
    """Folder or s3:// URI whose `weights` folder is the mirror."""
    checkpoint: str | None = None
    """The file of the one model of --models, a path or URI, where the card's place cannot be fetched from."""
    cards: tuple[str, ...] = ()
    """Model-index files (path or URI) with cards of your own models."""
    results_file: str | None = None
    """Where to write the table as JSON too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model's weights: `where` they are, `failure` why they are not to be used."""

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
        The exit code: 0, or 3 where a model has no right weights.

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
    cli.stdout.print(_table(rows))
    if config.results_file:
        storage.replace(config.results_file, json.dumps({"weights": [asdict(row) for row in rows]}, indent=1).encode())
    failed = [row for row in rows if row.failure]
    for row in failed:
        say(f"failed   {row.model}: {row.failure}")
    if config.action != "list":
        say(f"{count(len(rows) - len(failed), 'model')} with right weights, {len(failed)} without")
    return _FAILED if failed else cli.DONE


def _check(config: WeightsConfig, chosen: Sequence[zoo.Card]) -> None:
    if config.action == "mirror" and not config.store:
        raise ValueError("mirror: needs --store, the folder or s3:// URI to mirror into")
    if config.checkpoint and (len(chosen) > 1 or config.action == "list"):
        given = f"{count(len(chosen), 'model')} and {config.action}"
        raise ValueError(f"--checkpoint {config.checkpoint}: goes with one model and not with list, here with {given}")
    if config.results_file:
        storage.require_writable(config.results_file)


def _row(config: WeightsConfig, card: zoo.Card, action: Callable[[WeightsConfig, zoo.Card], Row]) -> Row:
    """What `action` says of a model; a model's own fault is its row's, and the others go on."""
    try:
        return action(config, card)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"{card.name}: ")
        return dataclasses.replace(_unknown(config, card), failure=reason)


def _list(config: WeightsConfig, card: zoo.Card) -> Row:
    locked = config.store and mirror.read_lock(config.store, card)
    if not locked and (card.weights is None or card.weights.sha256 is None):
        return _unknown(config, card)
    file = mirror.find(config.store, card)
    return _described(card, file, _where(config, file))


def _unknown(config: WeightsConfig, card: zoo.Card) -> Row:
    """A model whose file is not known by a digest: where it is to be had, in place of a name."""
    known = card.weights
    place = config.checkpoint or (known.location if known else "none published")
    return Row(
        model=card.name,
        file=f"at {urlsplit(place).hostname}" if "://" in place else place.rpartition("/")[2],
        sha256=known.sha256 if known else None,
        size=known.size if known else None,
        license=known.license if known else None,
        where="not locked" if known else "absent",
    )


def _verify(config: WeightsConfig, card: zoo.Card) -> Row:
    file = mirror.find(config.store, card, config.checkpoint)
    here = cache.at_hand(file)
    if config.checkpoint:
        mirror.verify(config.checkpoint, file)
    elif config.store:
        mirror.verify(mirror.uri(config.store, file), file)
    elif here:
        mirror.verify(str(here), file)
    else:
        raise FileNotFoundError("not on this machine")
    mirror.load(card, file)
    return _described(card, file, _where(config, file))


def _fetch(config: WeightsConfig, card: zoo.Card) -> Row:
    file = mirror.find(config.store, card, config.checkpoint)
    if not mirror.is_near(file):
        say(f"fetching {file.file}")
    with Transfer(file.file) as transfer:
        mirror.obtain(file, transfer.update)
    mirror.load(card, file)
    return _described(card, file, _where(config, file))


def _mirror(config: WeightsConfig, card: zoo.Card) -> Row:
    assert config.store
    with Transfer(card.name) as transfer:
        lock = mirror.mirror(config.store, card, config.checkpoint, transfer.update)
    return Row(
        model=card.name,
        file=lock.file,
        sha256=lock.sha256,
        size=lock.size,
        license=card.weights.license if card.weights else None,
        where="store",
    )


def _described(card: zoo.Card, file: Wanted, where: str) -> Row:
    known, here = card.weights, cache.at_hand(file)
    return Row(
        model=card.name,
        file=file.file,
        sha256=file.sha256,
        size=here.stat().st_size if here else known.size if known else None,
        license=known.license if known else None,
        where=where,
    )


def _where(config: WeightsConfig, file: Wanted) -> str:
    if config.store and storage.exists(mirror.uri(config.store, file)):
        return "store"
    here = cache.at_hand(file)
    return "absent" if here is None else "cache" if here.parent == cache.folder() else "installed"


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("model", "file", "SHA-256", "MB", "licence", "where"):
        side = "right" if heading == "MB" else "left"
        table.add_column(heading, overflow="fold", justify=side, no_wrap=heading == "file")
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
