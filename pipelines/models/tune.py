"""Which settings run a model fastest on a kind of device: measured once, kept in the store.

Owns the candidates, the choice, and the file of it. The measuring is done where models will run, by as many processes
at once as there will be actors on a node: one alone has the memory of all to itself, and would lie. A precision
is the user's choice and is never traded for speed. Refuses settings whose top-1 strays further from plain fp32 than
plain settings of the same precision do.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines import storage
from pipelines.cluster import connection
from pipelines.cluster.shares import await_node, resources, share
from pipelines.models.measure import Likeness, Measurer
from pipelines.models.precision import require_precision
from pipelines.records import Precision, Settings
from zoo.cards import Card

_FOLDER = "tuning"
_SECONDS = 3.0
_WORTH = 1.03
"""How much faster settings must be than simpler ones: less is noise."""

_CPU = (
    {"channels_last": True},
    {"channels_last": True, "fold": True},
    {"channels_last": True, "fold": True, "batch_size": 8},
    {"fold": True, "compile": True, "batch_size": 16},
)
_CUDA = (
    {"batch_size": 64, "fold": True},
    {"batch_size": 64, "fold": True, "channels_last": True},
    {"batch_size": 256, "fold": True},
    {"batch_size": 256, "fold": True, "channels_last": True},
    {"batch_size": 128, "fold": True, "compile": True},
    {"batch_size": 128, "fold": True, "compile": True, "channels_last": True},
)
"""What differs from plain settings, the simplest first. Short lists: each entry is a model's warming up, and compiling
takes the longest. On CPUs more than 16 images leave the caches, and the compiler lays out memory as it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Settings that were tried: images a second of one process, and its scores beside those of plain fp32.

    `agreeing` of `pictures` have the same top-1, `difference` is the largest of a probability. `failure` says why
    settings cannot be run, and the rest is then None.
    """

    settings: Settings
    images_per_second: float | None = None
    agreeing: int | None = None
    pictures: int | None = None
    difference: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What is fastest for a model on a kind of device in one precision, and how that was found."""

    model: str
    precision: Precision
    device: str
    hardware: str
    processes: int
    torch: str
    settings: Settings
    trials: tuple[Trial, ...]


def device(option: str, gpus: int = 0) -> str:
    """`cpu` or `cuda`: what `auto` means on this cluster, which is asked only then, with GPUs that it may be asked for.

    Raises:
        ValueError: if `option` is another name.
    """
    if option not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"--device {option}: choose from auto, cpu, cuda")
    if option != "auto":
        return option
    connection.connect()
    return "cuda" if max(resources()[1], gpus) >= 1 else "cpu"


def uri(store: str, card: Card, precision: Precision, device: str) -> str:
    """Where the tuning of a model lies."""
    return storage.join(store, _FOLDER, f"{card.name.replace(':', '_')}-{precision}-{device}.json")


def find(store: str, card: Card, precision: Precision, device: str) -> Settings | None:
    """The settings that were found fastest; None where nothing was tuned.

    Raises:
        ValueError: if the file is no tuning of this model in this precision.
    """
    place = uri(store, card, precision, device)
    try:
        found = json.loads(storage.read(place))
        if (found["model"], found["precision"], found["device"]) != (card.name, precision, device):
            raise ValueError(f"it is of {found['model']}, {found['precision']} on {found['device']}")
        settings = Settings(**found["settings"])
        if settings.precision != precision or settings.batch_size < 1:
            raise ValueError(f"its settings are {settings}")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{place}: not a tuning of {card.name}: {error}; `jobs.tune` makes it anew") from error
    return settings


def save(store: str, card: Card, tuning: Tuning) -> None:
    """Keep `tuning`, in place of an earlier one."""
    content = json.dumps(asdict(tuning), indent=1, sort_keys=True).encode() + b"\n"
    storage.replace(uri(store, card, tuning.precision, tuning.device), content)


def candidates(precision: Precision, device: str) -> list[Settings]:
    """What is tried, plain settings first and the simpler before the less simple.

    Raises:
        ValueError: for a precision that the device does not have.
    """
    require_precision(precision, device)
    plain = Settings(precision=precision)
    return [plain, *(replace(plain, **changes) for changes in (_CPU if device == "cpu" else _CUDA))]


def tune(card: Card, precision: Precision, device: str, watch: Callable[[Trial], None]) -> Tuning:
    """Measure the candidates on the cluster that is connected, and choose.

    Args:
        card: the model, of which only the architecture counts.
        precision: in which.
        device: `cpu` or `cuda`.
        watch: told of each candidate once it was tried.

    Raises:
        ValueError: if not even plain settings can be run, a measuring process dies, or the device is not there.
    """
    measurers = _start(card, device)
    try:
        trials = []
        for trial in _trials(measurers, candidates(precision, device)):
            trials.append(trial)
            watch(trial)
        hardware: Any = ray.get(measurers[0].hardware.remote())
    except RayError as error:
        lines = str(error).strip().splitlines() or [""]
        raise ValueError(f"{card.name}: measuring broke off: {type(error).__name__}: {lines[-1]}") from error
    finally:
        for measurer in measurers:
            ray.kill(measurer)
    return Tuning(
        model=card.name,
        precision=precision,
        device=device,
        hardware=hardware,
        processes=len(measurers),
        torch=version("torch"),
        settings=choose(card, trials).settings,
        trials=tuple(trials),
    )


def choose(card: Card, trials: Sequence[Trial]) -> Trial:
    """The fastest of those that can be run and do not stray further from plain fp32 than the first, plain ones, do.

    Raises:
        ValueError: if the first could not be run.
    """
    plain = trials[0]
    if plain.failure is not None:
        raise ValueError(f"{card.name}: cannot be run in {plain.settings.precision}: {plain.failure}")
    good = [trial for trial in trials if trial.failure is None and _strayed(trial) <= _allowed(plain)]
    best = max(trial.images_per_second or 0.0 for trial in good)
    return next(trial for trial in good if (trial.images_per_second or 0.0) * _WORTH >= best)


def _strayed(trial: Trial) -> int:
    """Pictures of another top-1 than plain fp32's."""
    assert trial.agreeing is not None and trial.pictures is not None
    return trial.pictures - trial.agreeing


def _allowed(plain: Trial) -> float:
    """As many as plain settings lose, and what chance adds to a count; in fp32 those lose none, and none may be lost.

    Random weights decide by hair's breadths, where bf16 tips a quarter of them.
    """
    return _strayed(plain) + 2 * math.sqrt(_strayed(plain))


def _start(card: Card, device: str) -> list[Any]:
    """Processes that measure: as many as there will be actors on one node, all on it."""
    await_node(device)
    shares = share(*resources(), device)
    nodes = [
        node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU" if shares.actor_gpus else "CPU")
    ]
    node = max(nodes, key=lambda node: (node["Resources"].get("CPU", 0), node["NodeID"]))
    many = 1 if shares.actor_gpus else max(1, int(node["Resources"]["CPU"]))
    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    remote = ray.remote(Measurer).options(  # pyright: ignore[reportCallIssue]
        num_cpus=shares.actor_cpus, num_gpus=shares.actor_gpus, scheduling_strategy=place
    )
    return [remote.remote(card, device) for _ in range(many)]


def _trials(measurers: Sequence[Any], settings: Sequence[Settings]) -> Iterator[Trial]:
    for one in settings:
        # The first compiles, and the others find what it has compiled.
        said: Any = ray.get(measurers[0].prepare.remote(one))
        if isinstance(said, Likeness):
            others = ray.get([measurer.prepare.remote(one) for measurer in measurers[1:]])
            said = next((other for other in others if isinstance(other, str)), said)
        if isinstance(said, str):
            yield Trial(settings=one, failure=said)
            continue
        rates = ray.get([measurer.measure.remote(_SECONDS) for measurer in measurers])
        yield Trial(
            settings=one,
            images_per_second=round(sum(rates) / len(rates), 2),
            agreeing=said.agreeing,
            pictures=said.pictures,
            difference=said.difference,
        )
