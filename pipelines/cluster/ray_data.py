"""Steps over Arrow tables on Ray Data, for the walk and for training: a row at a time, with bounded retries."""

import warnings
from collections.abc import Callable

from ray.data import DataContext, Dataset

_BLOCK_BYTES = 1 << 20
"""Smaller than a chunk of images, so that each chunk is a block of its own and is decoded as soon as it is read."""


RETRIES = 3
"""Ray Data's default is to retry for ever, so an input that kills its worker would do so for ever."""


def mapped(dataset: Dataset, step: Callable[..., object], **options: object) -> Dataset:
    """`dataset` with `step` applied to Arrow tables of one row; `options` are those of `map_batches`."""
    with warnings.catch_warnings():
        # Ray 2.60 deprecates remote arguments, which end with 2.64, but has no other way yet to bound retries.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return dataset.map_batches(step, batch_size=1, batch_format="pyarrow", **options)  # pyright: ignore


def set_context() -> None:
    """Make Ray Data pass on each chunk by itself, without progress bars or warnings."""
    context = DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Without a manifest a dataset may turn out to have fewer blocks than there are actors and tasks, which is fine.
    warnings.filterwarnings("ignore", message="The m(in|ax)imum number of concurrent")
