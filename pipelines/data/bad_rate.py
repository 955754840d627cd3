"""When bad images condemn a dataset as a whole."""

_FEWEST = 10
"""Fewer bad images prove nothing about a dataset, however small it is."""


def is_too_high(bad: int, images: int, max_bad_rate: float) -> bool:
    """Whether `bad` of `images` images are more than `max_bad_rate` allows, and no fewer than ten."""
    return bad > max(max_bad_rate * images, _FEWEST - 1)
