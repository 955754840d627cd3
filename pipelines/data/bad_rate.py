"""When bad images condemn a dataset as a whole."""

_FEWEST = 10
"""Fewer bad images prove nothing about a dataset, however small it is."""
_JUDGED_IMAGES = 1000


def is_too_high(bad: int, images: int, max_bad_rate: float) -> bool:
    """Whether `bad` of `images` images are more than `max_bad_rate` allows, and no fewer than ten."""
    return bad > max(max_bad_rate * images, _FEWEST - 1)


def is_too_high_so_far(bad: int, images: int, max_bad_rate: float) -> bool:
    """As `is_too_high`, for the first `images` of a dataset: the first few bad ones do not stop the work.

    What `max_bad_rate` allows is its share of at least a thousand images.
    """
    return is_too_high(bad, max(images, _JUDGED_IMAGES), max_bad_rate)
