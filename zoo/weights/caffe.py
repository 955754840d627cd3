"""Caffe's binary models -> tensors by name.

Only the fields of caffe.proto that contain weights are read: the layers of a NetParameter, their names and their blobs.
Protobuf skips the other fields (layer parameters, some of which SKNet's authors redefined). Tensors are named
`LAYER/INDEX`; the key map of an architecture renames them.
"""

import functools
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Message -> (field, number, type, label), with the numbers of BVLC's caffe.proto. Files from before 2014 have their
# layers in field 2, in a form that is not supported.
_FIELDS = {
    "BlobShape": [("dim", 1, "INT64", "PACKED")],
    "BlobProto": [("shape", 7, "BlobShape", "OPTIONAL"), ("data", 5, "FLOAT", "PACKED")],
    "LayerParameter": [("name", 1, "STRING", "OPTIONAL"), ("blobs", 7, "BlobProto", "REPEATED")],
    "NetParameter": [("name", 1, "STRING", "OPTIONAL"), ("layer", 100, "LayerParameter", "REPEATED")],
}


def read(data: bytes, source: str) -> dict[str, Tensor]:
    """The blobs of a `.caffemodel` as float32 tensors, named `LAYER/INDEX`.

    Args:
        data: The whole file.
        source: Name of the file in error messages.

    Raises:
        ValueError: If the file is of another kind, is truncated, or has a blob whose values do not fit its shape.
    """
    from google.protobuf.message import DecodeError

    net = _message("NetParameter")()
    try:
        net.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"{source}: not a complete .caffemodel ({error})") from error
    named = [(f"{layer.name}/{index}", blob) for layer in net.layer for index, blob in enumerate(layer.blobs)]
    blobs = {name: _tensor(blob, f"{source}: {name}") for name, blob in named}
    if len(blobs) < len(named):
        double = next(name for name, count in Counter(name for name, _ in named).items() if count > 1)
        raise ValueError(f"{source}: two layers have a blob {double}")
    if not blobs:
        raise ValueError(f"{source}: found no layer with weights; expected a .caffemodel from 2014 or later")
    return blobs


def _tensor(blob: Any, where: str) -> Tensor:
    shape, values = tuple(blob.shape.dim), np.asarray(blob.data, dtype=np.float32)
    if int(np.prod(shape)) != values.size:
        raise ValueError(f"{where}: {values.size} values for the shape {shape}")
    return torch.from_numpy(values.reshape(shape))


@functools.cache
def _message(name: str) -> Any:
    """The class of a message in `_FIELDS`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="menagerie/caffe.proto", package="menagerie.caffe", syntax="proto2")
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for field, number, kind, label in fields:
            added = described.field.add(name=field, number=number)
            added.label = added.LABEL_OPTIONAL if label == "OPTIONAL" else added.LABEL_REPEATED
            added.options.packed = label == "PACKED"
            if kind in _FIELDS:
                added.type, added.type_name = added.TYPE_MESSAGE, f".menagerie.caffe.{kind}"
            else:
                added.type = getattr(added, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"menagerie.caffe.{name}"))
