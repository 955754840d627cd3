"""Verify, parse and load a file of weights.

Code in a checkpoint is never executed: its digest is verified before it is parsed, objects in it that are no tensors
stay opaque, and it is loaded completely or not at all. Torch is imported only by the functions that return tensors.
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
_DATA = re.compile(
    r"(__main__|argparse|collections|datetime|decimal|easydict|enum|fractions|lightning|mmcv|mmengine|ml_collections|numpy"
    r"|omegaconf|pathlib|pytorch_lightning|timm|torch\.optim|torchmetrics|types\.SimpleNamespace|uuid|yacs)(\.|$)"
)
"""Modules whose objects are settings, counters or measurements where training scripts save them."""
_MOST_TYPES = 40


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


def parse(data: bytes, source: str) -> object:
    """What a checkpoint holds; the suffix of `source` determines the format.

    Args:
        data: The whole file.
        source: Name of the file: `.caffemodel` for Caffe, `.safetensors` for safetensors, otherwise `torch.save`.

    Returns:
        Key to tensor, on the CPU; for `torch.save` whatever was saved, see `zoo.weights.unwrap`.

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


def load_state(data: bytes, source: str = "the checkpoint") -> object:
    """Parse a file written by `torch.save`: tensors, and data of plain types beside them.

    Objects of the types in `_DATA`, which training scripts save beside the weights, become an `Opaque`: nothing of
    their class is imported or run. `weights_only=True` is passed explicitly, because the environment variable
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD changes only its default.

    Args:
        data: The whole file.
        source: Name of the file in error messages.

    Returns:
        What was saved, with its tensors on the CPU.

    Raises:
        ValueError: If the file contains pickled code, or is truncated or damaged.
    """
    import torch

    stand_ins: dict[str, type[Opaque]] = {}
    while True:
        try:
            with torch.serialization.safe_globals([(each, name) for name, each in stand_ins.items()]):
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        # Damaged bytes have been observed to raise ten kinds of exception.
        except Exception as error:
            name = _unknown_type(error)
            if name is None or name in stand_ins or len(stand_ins) == _MOST_TYPES or not _DATA.match(name):
                raise ValueError(f"{source}: {_reason(error, source)}") from error
            stand_ins[name] = type(name.rpartition(".")[2], (Opaque,), {})


class Opaque:
    """Stands for an object that a training script saved; it keeps nothing of it."""

    def __new__(cls, *_: object) -> "Opaque":
        """Ignore what the object was made of."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Ignore what the object held."""


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


def _unknown_type(error: Exception) -> str | None:
    """The name of the type or function that torch does not know, where `error` is about one."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return code[1] if code else None


def _reason(error: Exception, source: str) -> str:
    loaded = f"torch.load({source!r}, weights_only=False)"
    # torch's message names the callable in the pickle, and adds paragraphs of advice on how to allow it.
    if code := _unknown_type(error):
        of_module = "(c if hasattr(c, 'state_dict') else c['model']).state_dict()"
        remedy = _remedy(loaded, of_module if code.startswith("torch.nn.") else "c['state_dict']")
        return f"not loaded, since it contains pickled code ({code}); {remedy}"
    if "Can only" in str(error):  # torch does not fill objects that are not its own, nor stand-ins
        remedy = _remedy(loaded, "c['state_dict']")
        return f"not loaded, since it contains objects that are neither tensors nor plain data; {remedy}"
    if "TorchScript" in str(error):
        return f"a TorchScript archive; {_remedy(f'torch.jit.load({source!r})', 'c.state_dict()')}"
    return f"not a complete checkpoint, truncated or damaged ({type(error).__name__})"


def _remedy(loaded: str, state: str) -> str:
    """The line of Python that saves the weights alone."""
    return f"if you trust it, run it in Python: import torch; c = {loaded}; torch.save({state}, 'weights.pth')"


def _examples(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
