"""Caffe's files are read as caffe.proto lays them out, written here by hand from its field numbers."""

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import zoo
from tests.support.paths import GOLDEN
from zoo import imagenet
from zoo.weights import caffe


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(values: Tensor) -> bytes:
    """BlobProto: shape = 7 (BlobShape: dim = 1, packed), data = 5 (packed floats)."""
    shape = field(7, field(1, b"".join(map(varint, values.shape))))
    return field(5, values.numpy().astype("<f4").tobytes()) + shape


def layer(name: str, blobs: Iterable[Tensor]) -> bytes:
    """LayerParameter: name = 1, type = 2, blobs = 7, and 200, which SKNet's authors gave another meaning."""
    parts = [field(1, name.encode()), field(2, b"CuDNNBatchNorm"), field(200, b"\x08\x01")]
    return b"".join([*parts, *(field(7, blob(values)) for values in blobs)])


def caffemodel(blobs: dict[str, Tensor]) -> bytes:
    """NetParameter: name = 1, layer = 100; a layer without weights among the others."""
    layers: dict[str, list[Tensor]] = {}
    for name, values in blobs.items():
        layers.setdefault(name.rpartition("/")[0], []).append(values)
    encoded = [field(100, layer(name, values)) for name, values in layers.items()]
    return b"".join([field(1, b"SKNet"), field(100, layer("relu", [])), *encoded])


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: not name.endswith("/")),
        st.lists(st.floats(width=32, allow_nan=False), max_size=300),
        min_size=1,
        max_size=4,
    )
)
def test_blobs_are_read_back_under_their_names(values: dict):
    blobs = {f"{name}/0": torch.tensor(numbers, dtype=torch.float32) for name, numbers in values.items()}
    read = caffe.read(caffemodel(blobs), "a.caffemodel")
    assert read.keys() == blobs.keys()
    assert all(torch.equal(read[name], blobs[name]) for name in blobs)


@torch.inference_mode()
def test_sknet_from_a_caffemodel_gives_the_reference_logits_in_our_label_order(
    tmp_path: Path, caffe_blobs: Callable, noise: Callable
):
    blobs = caffe_blobs("sknet50")
    path = tmp_path / "SKNet50.caffemodel"
    # As some Caffes write a norm's vectors.
    path.write_bytes(caffemodel({n: b.reshape(1, -1, 1, 1) if "/bn/" in n else b for n, b in blobs.items()}))
    logits = zoo.create("sknet50", weights=path)(noise(224))
    expected = torch.from_numpy(np.load(GOLDEN / "sknet50.npz")["logits"])
    ours = expected[:, list(imagenet.devkit_positions())]
    torch.testing.assert_close(logits, ours, rtol=0, atol=1e-4 * float(expected.std()))
    assert not torch.allclose(logits, expected)


def test_the_converted_state_saved_again_is_in_our_order_and_stays_so(tmp_path: Path, caffe_blobs: Callable):
    path = tmp_path / "SKNet50.caffemodel"
    path.write_bytes(caffemodel(caffe_blobs("sknet50")))
    once = zoo.create("sknet50", weights=path)
    torch.save(once.state_dict(), tmp_path / "sknet50.pth")
    twice = zoo.create("sknet50", weights=tmp_path / "sknet50.pth")
    assert all(torch.equal(value, twice.state_dict()[key]) for key, value in once.state_dict().items())


def test_a_missing_and_a_strange_layer_are_named(tmp_path: Path, caffe_blobs: Callable):
    blobs = caffe_blobs("sknet50")
    blobs["conv9_9/3x3g32/0"] = blobs.pop("conv2_1/3x3g32/0")
    path = tmp_path / "SKNet50.caffemodel"
    path.write_bytes(caffemodel(blobs))
    told = r"1 missing: layer1\.0\.conv2\.paths\.0\.0\.weight; 1 extra: conv9_9/3x3g32/0"
    with pytest.raises(ValueError, match=told):
        zoo.create("sknet50", weights=path)


def test_sknet50s_file_is_not_sknet101s(tmp_path: Path, caffe_blobs: Callable):
    path = tmp_path / "SKNet50.caffemodel"
    path.write_bytes(caffemodel(caffe_blobs("sknet50")))
    with pytest.raises(ValueError, match=r"does not fit ResNet: \d+ missing: .*mis-shaped"):
        zoo.create("sknet101", weights=path)


def test_a_file_cut_short_anywhere_is_refused():
    data = caffemodel({"conv/0": torch.arange(40.0).reshape(4, 10), "conv/1": torch.arange(4.0)})
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"a\.caffemodel: (not a complete|found no layer with weights)"):
            caffe.read(data[:size], "a.caffemodel")


def test_two_layers_of_one_name_are_refused():
    double = [field(100, layer("conv", [torch.zeros(2)]))] * 2
    with pytest.raises(ValueError, match=r"a\.caffemodel: two layers have a blob conv/0"):
        caffe.read(b"".join(double), "a.caffemodel")


def test_a_blob_that_does_not_fill_its_shape_is_refused():
    wrong = field(5, struct.pack("<3f", 1, 2, 3)) + field(7, field(1, b"\x02\x02"))
    data = field(100, field(1, b"conv") + field(7, wrong))
    with pytest.raises(ValueError, match=r"a\.caffemodel: conv/0: 3 values for the shape \(2, 2\)"):
        caffe.read(data, "a.caffemodel")
