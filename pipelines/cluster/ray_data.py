"""Steps over Arrow tables on Ray Data, as the walk and training run them: row by row, with bounded retries."""

import warnings
from collections.abc import Callable

from ray.data import DataContext, Dataset

_BLOCK_BYTES = 1 << 20
"""Less than a chunk of pictures, so that each is a block of its own and is decoded as soon as it is read."""


RETRIES = 3
"""Ray Data's default is to retry for ever, and whatever kills a worker would do so for ever."""


def mapped(dataset: Dataset, step: Callable[..., object], **options: object) -> Dataset:
    """A step of the walk over Arrow tables of one row."""
    with warnings.catch_warnings():
        # Ray 2.60 wants no free remote arguments from 2.64 on, and has no other way yet to bound retries.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return dataset.map_batches(step, batch_size=1, batch_format="pyarrow", **options)  # pyright: ignore


def set_context() -> None:
    """Have Ray Data pass on each chunk by itself, and be silent."""
    context = DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Of a dataset without manifest nobody knows that it is smaller than the actors and tasks are many; that is fine.
    warnings.filterwarnings("ignore", message="The m(in|ax)imum number of concurrent")
