"""The fastest settings of a model on a kind of device: measured once, kept in the store.

Candidates run where models will run, in as many processes at once as a node will have actors: a single one would have
the node's memory bandwidth to itself. The precision is the user's choice and never traded for speed: settings that
change clearly more top-1 classes, compared with plain fp32, than plain settings in that precision are not chosen.
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
from pipelines.storage.layout import Folder
from zoo.cards import Card

_SECONDS = 3.0
_STORED_NAMES = {"images": "pictures"}
"""Names in the files, of fields that are called otherwise here."""
_WORTH = 1.03
"""Settings must be faster than simpler ones by this factor: less is noise."""

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
"""Differences from plain settings, the simplest first. The lists are short, since each entry costs a warm-up, and
compiling takes the longest. On CPUs more than 16 images exceed the caches, and the compiler chooses the layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The measurement of one candidate: images per second of a process, and its scores compared with plain fp32.

    `agreeing` of `images` have the same top-1 class; `difference` is the largest difference of a probability.
    `failure` is the reason why the settings cannot run; the other fields are then None.
    """

    settings: Settings
    images_per_second: float | None = None
    agreeing: int | None = None
    images: int | None = None
    difference: float | None = None
    failure: str | None = None

    def to_json(self) -> dict[str, object]:
        """The measurement as it stands in files."""
        return {_STORED_NAMES.get(name, name): value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The fastest settings of a model on a kind of device in one precision, and the measurements."""

    model: str
    precision: Precision
    device: str
    hardware: str
    processes: int
    torch: str
    settings: Settings
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, object]:
        """The tuning as it stands in files."""
        return {**asdict(self), "trials": [trial.to_json() for trial in self.trials]}


def device(option: str, gpus: int = 0) -> str:
    """`cpu` or `cuda` for the value of --device; the cluster is joined only to resolve `auto`.

    Args:
        option: `auto`, `cpu` or `cuda`.
        gpus: the number of GPUs that an autoscaler may be asked for.

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
    """The URI of the tuning of a model."""
    return storage.join(store, Folder.TUNING, f"{card.name.replace(':', '_')}-{precision}-{device}.json")


def find(store: str, card: Card, precision: Precision, device: str) -> Settings | None:
    """The fastest settings of a model; None if it was not tuned.

    Raises:
        ValueError: if the file holds no tuning of this model in this precision.
    """
    place = uri(store, card, precision, device)
    try:
        stored = json.loads(storage.read(place))
        if (stored["model"], stored["precision"], stored["device"]) != (card.name, precision, device):
            raise ValueError(f"it is of {stored['model']}, {stored['precision']} on {stored['device']}")
        settings = Settings(**stored["settings"])
        if settings.precision != precision or settings.batch_size < 1:
            raise ValueError(f"its settings are {settings}")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{place}: not a tuning of {card.name}: {error}; `jobs.tune` makes a new one") from error
    return settings


def require(store: str, card: Card, precision: Precision, device: str, command: str) -> Settings:
    """The fastest settings of a model; `command` is what tunes it.

    Raises:
        ValueError: if it was not tuned, with `command`, or the file is another model's.
    """
    found = find(store, card, precision, device)
    if found is None:
        raise ValueError(f"{card.name}: --tuned: not tuned in {precision} on {device} yet; run `{command}` first")
    return found


def save(store: str, card: Card, tuning: Tuning) -> None:
    """Store `tuning`, in place of an earlier one."""
    content = json.dumps(tuning.to_json(), indent=1, sort_keys=True).encode() + b"\n"
    storage.replace(uri(store, card, tuning.precision, tuning.device), content)


def candidates(precision: Precision, device: str) -> list[Settings]:
    """The settings to try, from plain to complicated.

    Raises:
        ValueError: if the device does not have the precision.
    """
    require_precision(precision, device)
    plain = Settings(precision=precision)
    return [plain, *(replace(plain, **changes) for changes in (_CPU if device == "cpu" else _CUDA))]


def tune(card: Card, precision: Precision, device: str, watch: Callable[[Trial], None]) -> Tuning:
    """Measure the candidates on the connected cluster, and choose the fastest.

    Args:
        card: the model, of which only the architecture counts.
        precision: the precision of all candidates.
        device: `cpu` or `cuda`.
        watch: called with each candidate once it was tried.

    Raises:
        ValueError: if not even plain settings can run, a measuring process dies, or the cluster lacks the device.
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
        raise ValueError(f"{card.name}: measuring failed: {type(error).__name__}: {lines[-1]}") from error
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
    """The fastest trial that ran and whose top-1 classes differ from plain fp32 no more than those of the first trial.

    The first trial is of plain settings.

    Raises:
        ValueError: if the first trial failed.
    """
    plain = trials[0]
    if plain.failure is not None:
        raise ValueError(f"{card.name}: cannot run in {plain.settings.precision}: {plain.failure}")
    good = [trial for trial in trials if trial.failure is None and _differing(trial) <= _allowed(plain)]
    best = max(trial.images_per_second or 0.0 for trial in good)
    return next(trial for trial in good if (trial.images_per_second or 0.0) * _WORTH >= best)


def _differing(trial: Trial) -> int:
    """The number of images with another top-1 class than in plain fp32."""
    assert trial.agreeing is not None and trial.images is not None
    return trial.images - trial.agreeing


def _allowed(plain: Trial) -> float:
    """The number of images that may differ: as many as with plain settings, plus two standard deviations of that count.

    In plain fp32 none differs, so none may. Random weights decide narrowly: bf16 changes a quarter of the classes.
    """
    return _differing(plain) + 2 * math.sqrt(_differing(plain))


def _start(card: Card, device: str) -> list[Any]:
    """Processes that measure: as many as a node will have actors, all on one node."""
    await_node(device)
    shares = share(*resources(), device)
    nodes = [
        node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU" if shares.actor_gpus else "CPU")
    ]
    node = max(nodes, key=lambda node: (node["Resources"].get("CPU", 0), node["NodeID"]))
    processes = 1 if shares.actor_gpus else max(1, int(node["Resources"]["CPU"]))
    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    remote = ray.remote(Measurer).options(  # pyright: ignore[reportCallIssue]
        num_cpus=shares.actor_cpus, num_gpus=shares.actor_gpus, scheduling_strategy=place
    )
    return [remote.remote(card, device) for _ in range(processes)]


def _trials(measurers: Sequence[Any], settings: Sequence[Settings]) -> Iterator[Trial]:
    for one in settings:
        # The first process compiles, and the others find its code in the cache.
        outcome: Any = ray.get(measurers[0].prepare.remote(one))
        if isinstance(outcome, Likeness):
            others = ray.get([measurer.prepare.remote(one) for measurer in measurers[1:]])
            outcome = next((other for other in others if isinstance(other, str)), outcome)
        if isinstance(outcome, str):
            yield Trial(settings=one, failure=outcome)
            continue
        rates = ray.get([measurer.measure.remote(_SECONDS) for measurer in measurers])
        yield Trial(
            settings=one,
            images_per_second=round(sum(rates) / len(rates), 2),
            agreeing=outcome.agreeing,
            images=outcome.images,
            difference=outcome.difference,
        )
