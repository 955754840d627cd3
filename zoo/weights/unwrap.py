"""The weights in what a training script saved: taken out of their wrapping, with a note of each step.

Training scripts save more than weights (epoch, optimiser, arguments), under names of their own, and wrappers of the
network put a prefix before each key. What is unambiguous is undone here; nothing is guessed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SETS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "ema")
"""Names under which training scripts save the weights: timm, torchvision, Lightning, DeiT, PyTorch's own examples."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
"""What DataParallel, torch.compile, Lightning and other wrappers put before each key."""
_EXTRAS = ("total_ops", "total_params", "n_averaged")
"""Last parts of keys that profilers (thop) and averaged models add to the weights."""
_COUNTER = "num_batches_tracked"
"""Of batch norm; files of PyTorch before 0.4.1 lack it, and inference does not use it."""
_DEEPEST = 4
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The weights of a file: `tensors` by key, and what was done to find them, a `step` a line."""

    tensors: "dict[str, Tensor]"
    steps: tuple[str, ...]


def unwrap(content: object, own: Collection[str], key: str | None = None, source: str = "the checkpoint") -> Unwrapped:
    """Find the weights in the content of a checkpoint.

    Args:
        content: What the file holds, as parsed: see `zoo.weights.load.parse`.
        own: Keys of the network; a prefix that they have themselves stays.
        key: Name of the set of weights; names within names are joined by dots. By default the only set.
        source: Name of the file in error messages.

    Returns:
        The tensors, whose keys are not yet checked against the network.

    Raises:
        ValueError: If there are no weights, several sets of them, or none under `key`.
    """
    steps: list[str] = []
    weights = _named(content, key, source, steps) if key else _only(content, source, steps)
    tensors, others = _split(weights, source)
    if others:
        steps.append(f"left out what is no tensor: {_examples(others)}")
    extras = [name for name in tensors if name.rpartition(".")[2] in _EXTRAS and name not in own]
    if extras:
        steps.append(f"left out {_examples(extras)}")
    tensors = {name: value for name, value in tensors.items() if name not in set(extras)}
    return Unwrapped(_without_prefix(tensors, own, steps), tuple(steps))


def with_counters(state: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> tuple["dict[str, Tensor]", str | None]:
    """Add the counters of batches that old files lack.

    Args:
        state: Key to tensor, with the network's own keys.
        own: The network's tensors.

    Returns:
        The state, and what was done; None if nothing was.
    """
    absent = [name for name in own if name not in state and name.rpartition(".")[2] == _COUNTER]
    if not absent:
        return dict(state), None
    return {**state, **{name: own[name] for name in absent}}, f"{len(absent)} {_COUNTER} are absent and stay 0"


def _only(content: object, source: str, steps: list[str]) -> Mapping[Any, Any]:
    """The only set of weights in `content`, which may be wrapped several times."""
    for _ in range(_DEEPEST):
        state = _mapping(content, source)
        sets = [name for name in SETS if _holds_tensors(state.get(name))]
        if len(sets) > 1:
            raise ValueError(
                f"{source}: holds {len(sets)} sets of weights; choose with --weights-key {' or '.join(sets)}"
            )
        if not sets:
            return state
        steps.append(f"took {sets[0]}")
        content = state[sets[0]]
    raise ValueError(f"{source}: weights are wrapped more than {_DEEPEST} times; name them with --weights-key")


def _named(content: object, key: str, source: str, steps: list[str]) -> Mapping[Any, Any]:
    """The set of weights called `key`."""
    found = content
    for part in key.split("."):
        found = _mapping(found, source).get(part)
    if not isinstance(found, Mapping):
        there = [name for name, value in _mapping(content, source).items() if _holds_tensors(value)]
        raise ValueError(f"{source}: has no set of weights {key!r}; it has {', '.join(map(str, there)) or 'none'}")
    steps.append(f"took {key}")
    return found


def _mapping(content: object, source: str) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{source}: expected a dict of tensors, found {type(content).__name__}")
    return content


def _holds_tensors(value: object, depth: int = _DEEPEST) -> bool:
    """Whether `value` is a dict with tensors, itself or in a set of weights at most `depth` levels within it."""
    import torch

    if not isinstance(value, Mapping) or not depth:  # a dict may hold itself
        return False
    return any(isinstance(each, torch.Tensor) for each in value.values()) or any(
        _holds_tensors(value.get(name), depth - 1) for name in SETS
    )


def _split(weights: Mapping[Any, Any], source: str) -> tuple["dict[str, Tensor]", list[str]]:
    """The tensors, and the names of everything else."""
    import torch

    others = [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]
    tensors = {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
    for name in tensors:
        if not isinstance(name, str):
            raise ValueError(f"{source}: expected a dict of tensors, found {type(tensors[name]).__name__} at {name!r}")
    if not tensors:
        sets = [str(name) for name in others if _holds_tensors(weights[name])]
        hint = f"; tensors are in {', '.join(sets)}: choose with --weights-key {sets[0]}" if sets else ""
        first = next(iter(weights), None)
        found = "an empty dict" if first is None else f"{type(weights[first]).__name__} at {first!r}"
        raise ValueError(f"{source}: expected a dict of tensors, found {found}{hint}")
    if unnamed := [name for name in others if _holds_tensors(weights[name])]:
        raise ValueError(f"{source}: tensors stand beside {_examples(list(map(str, unnamed)))}; save only the weights")
    return tensors, [str(name) for name in others]


def _without_prefix(tensors: "dict[str, Tensor]", own: Collection[str], steps: list[str]) -> "dict[str, Tensor]":
    """The tensors without the prefixes that all keys have and the network's keys have not."""
    removed = ""
    while prefix := next((each for each in PREFIXES if _all_begin(tensors, each) and not _all_begin(own, each)), ""):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        removed += prefix
    if removed:
        steps.append(f"removed the prefix {removed}")
    return tensors


def _all_begin(names: Collection[str], prefix: str) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


def _examples(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
