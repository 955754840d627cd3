"""From a file to a model that holds its weights: verify, parse, load.

No code in a checkpoint is run: its digest is checked before it is parsed, it is parsed as tensors and nothing else, and
it is loaded whole or not at all. Torch is imported only where bytes become tensors.
"""

import hashlib
import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import imagenet

if TYPE_CHECKING:
    from torch import Tensor, nn


CAFFE = ".caffemodel"


SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", CAFFE)
"""What files of weights are called; each but the last two is `torch.save`'s."""


_SHOWN_KEYS = 3


def read_verified(path: Path, sha256: str | None) -> bytes:
    """The bytes of `path`, once their digest is known to be right.

    Args:
        path: a local file.
        sha256: the hexadecimal digest, or its published beginning; None where no digest is known.

    Raises:
        ValueError: if the digest is another one; nothing has been parsed then.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and not (sha256 and found.startswith(sha256)):
        raise ValueError(f"{path}: expected SHA-256 {sha256}, found {found} ({len(data):,} bytes)")
    return data


def parse(data: bytes, source: str) -> "dict[str, Tensor]":
    """The tensors of a checkpoint, of the kind that the suffix of `source` names.

    Args:
        data: the whole file.
        source: its name; `.caffemodel` is Caffe's, `.safetensors` the format of that name, others `torch.save`'s.

    Raises:
        ValueError: if the file is cut short or damaged, holds pickled code, or holds something else.
    """
    if data[:64].lstrip().startswith(b"<"):
        raise ValueError(f"{source}: a web page, no checkpoint")
    if source.endswith(CAFFE):
        from zoo.weights import caffe

        return caffe.read(data, source)
    if source.endswith(".safetensors"):
        return _safetensors(data, source)
    return load_state(data, source)


def _safetensors(data: bytes, source: str) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except SafetensorError as error:
        raise ValueError(f"{source}: not a whole checkpoint, cut short or damaged ({error})") from error


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
            hint = "; save that dict alone" if isinstance(value, dict) else ""
            raise ValueError(f"{source}: expected a dict of tensors, found {type(value).__name__} at {key!r}{hint}")
    return state


def load_strict(model: "nn.Module", state: "Mapping[str, Tensor]", source: str = "the checkpoint") -> None:
    """Fill every parameter and buffer of `model` from `state`, or change nothing.

    Args:
        model: the architecture.
        state: key to tensor, in the model's own keys.
        source: what an error calls the state.

    Raises:
        ValueError: one error that counts and samples the missing, extra and mis-shaped keys, and those whose values
            are of another kind or not finite.
    """
    own = model.state_dict()
    both = [key for key in own if key in state]
    unlike = [key for key in both if own[key].shape != state[key].shape]
    problems = {
        "missing": [key for key in own if key not in state],
        "extra": [key for key in state if key not in own],
        "mis-shaped": [f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}" for key in unlike],
        "unusable": [f"{key} {reason}" for key in both if (reason := _unusable(state[key], own[key]))],
    }
    if any(problems.values()):
        told = "; ".join(f"{len(keys)} {kind}: {_sample(keys)}" for kind, keys in problems.items() if keys)
        raise ValueError(f"{source} does not fit {type(model).__name__}: {told}")
    model.load_state_dict(state)


def in_our_order(state: "Mapping[str, Tensor]", classifier: str) -> "dict[str, Tensor]":
    """A state whose classifier counts classes as ILSVRC's devkit does, with its rows in the order of synset ids.

    Args:
        state: key to tensor; `CLASSIFIER.weight` is (1000, C), `CLASSIFIER.bias` (1000,).
        classifier: the module's name.

    Raises:
        ValueError: if the classifier has other than 1000 rows.
    """
    positions = list(imagenet.devkit_positions())
    ours = dict(state)
    for key in (f"{classifier}.weight", f"{classifier}.bias"):
        if key in ours:
            if len(ours[key]) != len(positions):
                raise ValueError(f"label order devkit goes with 1000 classes, {key} has {len(ours[key])}")
            ours[key] = ours[key][positions]
    return ours


def _unusable(found: "Tensor", own: "Tensor") -> str | None:
    """Why the values of `found` cannot be those of `own`."""
    import torch

    if found.layout != torch.strided:
        return f"is {found.layout}"
    if found.is_floating_point() != own.is_floating_point() or found.is_complex():
        return f"is {found.dtype}, not {own.dtype}"
    return None if found.isfinite().all() else "is not finite"


def _reason(error: Exception) -> str:
    # torch names the callable that a pickle asks for and adds paragraphs of advice on how to allow it.
    code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return f"refused, it holds pickled code ({code[1]}) beside or instead of tensors"
    return f"not a whole checkpoint, cut short or damaged ({type(error).__name__})"


def _sample(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
