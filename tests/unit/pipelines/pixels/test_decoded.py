"""Covers pipelines.pixels.decoded: a chunk has the pixels and errors of each view, without a copy of the pixels."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.pixels.decode import decode_chunks
from pipelines.pixels.decoded import decoded_chunks
from tests.support.pictures import GOOD, GOOD_PIXELS, SMALL, chunk, exact
from zoo.preprocessing import Geometry

VIEWS = exact(Geometry(16, 16, "bilinear"), SMALL)


def test_a_chunk_has_the_pixels_and_errors_of_each_view() -> None:
    (found,) = decoded_chunks(decode_chunks(chunk([GOOD, b""]), VIEWS), VIEWS)
    assert (found.shard, found.start, found.last, found.failure, found.transient) == (3, 64, True, None, False)
    assert (found.keys, found.labels, found.offsets, found.digests) == (["0", "1"], [0, 1], [0, 512], [0, 1])
    assert [found.pixels(view).shape for view in VIEWS] == [(2, 16, 16, 3), (2, 32, 32, 3)]
    assert (found.pixels(VIEWS[1])[0] == GOOD_PIXELS).all()
    assert not found.pixels(VIEWS[1])[1].any()
    assert found.errors(VIEWS[0]) == found.errors(VIEWS[1]) == [None, "empty file"]


def test_pixels_are_not_copied() -> None:
    table = decode_chunks(chunk([GOOD]), VIEWS)
    (found,) = decoded_chunks(table, VIEWS)
    assert np.shares_memory(found.pixels(VIEWS[0]), found.pixels(VIEWS[0]))
    with pytest.raises(ValueError, match="read-only"):
        found.pixels(VIEWS[0])[0] = 1


def test_chunks_come_in_the_order_of_their_rows() -> None:
    table = decode_chunks(pa.concat_tables([chunk([GOOD]), chunk([b"", GOOD])]), VIEWS)
    first, second = decoded_chunks(table, VIEWS)
    assert (len(first.keys), len(second.keys)) == (1, 2)
    assert (first.pixels(VIEWS[1])[0] == second.pixels(VIEWS[1])[1]).all()
