"""Verify, parse and load a file of weights.

Code in a checkpoint is never executed: its digest is verified before it is parsed, it is parsed as tensors only, and it
is loaded completely or not at all. Torch is imported only by the functions that return tensors.
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
"""Suffixes of files of weights; all but the last two are of `torch.save`."""
_SHOWN_KEYS = 3


def read_verified(path: Path, sha256: str | None) -> bytes:
    """Read a file and verify its digest.

    Args:
        path: A local file.
        sha256: The hexadecimal digest or its published prefix; None where no digest is known.

    Raises:
        ValueError: If the digest is a different one.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and not (sha256 and found.startswith(sha256)):
        raise ValueError(f"{path}: expected SHA-256 {sha256}, found {found} ({len(data):,} bytes)")
    return data


def parse(data: bytes, source: str) -> "dict[str, Tensor]":
    """The tensors of a checkpoint; the suffix of `source` determines the format.

    Args:
        data: The whole file.
        source: Name of the file: `.caffemodel` for Caffe, `.safetensors` for safetensors, otherwise `torch.save`.

    Returns:
        Key to tensor, on the CPU.

    Raises:
        ValueError: If the file is truncated or damaged, contains pickled code, or is not a checkpoint.
    """
    if data[:64].lstrip().startswith(b"<"):
        raise ValueError(f"{source}: a web page, not a checkpoint")
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
        raise ValueError(f"{source}: not a complete checkpoint, truncated or damaged ({error})") from error


def load_state(data: bytes, source: str = "the checkpoint") -> "dict[str, Tensor]":
    """Parse a checkpoint written by `torch.save`, as tensors only.

    `weights_only=True` is passed explicitly, because the environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD changes
    only its default.

    Args:
        data: The whole file.
        source: Name of the file in error messages.

    Returns:
        Key to tensor, on the CPU.

    Raises:
        ValueError: If the file contains pickled code, is truncated or damaged, or is not a dict of tensors.
    """
    import torch

    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # Damaged bytes have been observed to raise ten kinds of exception.
    except Exception as error:
        raise ValueError(f"{source}: {_reason(error)}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{source}: expected a dict of tensors, found {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            hint = "; save only that dict" if isinstance(value, dict) else ""
            raise ValueError(f"{source}: expected a dict of tensors, found {type(value).__name__} at {key!r}{hint}")
    return state


def load_strict(model: "nn.Module", state: "Mapping[str, Tensor]", source: str = "the checkpoint") -> None:
    """Load every parameter and buffer of `model` from `state`, or leave the model unchanged.

    Args:
        model: The network.
        state: Key to tensor, with the network's own keys.
        source: Name of the state in error messages.

    Raises:
        ValueError: If keys are missing, unexpected or of another shape, or values are not finite, or floats where the
            network has integers, or the reverse; the message counts them and gives examples.
    """
    own = model.state_dict()
    shared = [key for key in own if key in state]
    unlike = [key for key in shared if own[key].shape != state[key].shape]
    problems = {
        "missing": [key for key in own if key not in state],
        "extra": [key for key in state if key not in own],
        "mis-shaped": [f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}" for key in unlike],
        "unusable": [f"{key} {reason}" for key in shared if (reason := _unusable(state[key], own[key]))],
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {kind}: {_examples(keys)}" for kind, keys in problems.items() if keys)
        raise ValueError(f"{source} does not fit {type(model).__name__}: {listed}")
    model.load_state_dict(state)


def to_synset_order(state: "Mapping[str, Tensor]", classifier: str) -> "dict[str, Tensor]":
    """Reorder a classifier from the class order of the ILSVRC devkit to that of sorted synset ids.

    Args:
        state: Key to tensor; `CLASSIFIER.weight` is (1000, C), `CLASSIFIER.bias` (1000,).
        classifier: Name of the classifier's module.

    Returns:
        The state with the classifier's rows permuted.

    Raises:
        ValueError: If the classifier does not have 1000 rows.
    """
    positions = list(imagenet.devkit_positions())
    reordered = dict(state)
    for key in (f"{classifier}.weight", f"{classifier}.bias"):
        if key in reordered:
            if len(reordered[key]) != len(positions):
                raise ValueError(f"label order devkit requires 1000 classes, {key} has {len(reordered[key])}")
            reordered[key] = reordered[key][positions]
    return reordered


def _unusable(found: "Tensor", own: "Tensor") -> str | None:
    """Why the values of `found` cannot be loaded into `own`; None if they can."""
    import torch

    if found.layout != torch.strided:
        return f"is {found.layout}"
    if found.is_floating_point() != own.is_floating_point() or found.is_complex():
        return f"is {found.dtype}, not {own.dtype}"
    return None if found.isfinite().all() else "is not finite"


def _reason(error: Exception) -> str:
    # torch's message names the callable in the pickle, and adds paragraphs of advice on how to allow it.
    code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return f"not loaded, since it contains pickled code ({code[1]})"
    return f"not a complete checkpoint, truncated or damaged ({type(error).__name__})"


def _examples(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
