"""Probabilities -> scores: the most probable classes, and the mean of several models.

Owns the order of classes, and what an ensemble is. Refuses to run a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says of R images.

    `classes` (R, top) are the most probable ones, ties by class index, `top_probs` their probabilities, `probs` (R, N)
    those of all classes, `sq_prob` (R) the sum of their squares, and `logsumexp` (R) what turns the logarithm of a
    probability into a logit. `seconds` is how long it took; None for an engine's first images, on which it warms up.
    """

    classes: np.ndarray
    top_probs: np.ndarray
    probs: np.ndarray
    sq_prob: np.ndarray
    logsumexp: np.ndarray
    seconds: float | None


def ranked(probs_RN: Tensor, logsumexp_R: Tensor, top: int, subset: Tensor | None) -> tuple[Tensor, ...]:
    """What `Scores` has, but for the time."""
    # Stable, so that ties stay in the order of classes; those that do not count come last.
    sorted_RN = _behind(probs_RN, subset).sort(dim=1, descending=True, stable=True)
    return (
        sorted_RN.indices[:, :top],
        sorted_RN.values[:, :top],
        probs_RN,
        probs_RN.square().sum(dim=1),
        logsumexp_R,
    )


@torch.inference_mode()
def averaged(members: Sequence[Scores], top: int, subset: tuple[int, ...] | None) -> Scores:
    """The scores of an ensemble: the mean of its members' probabilities, in fp32.

    As logits it has the logarithms of these, so its `logsumexp` is zero.
    """
    probs_RN = torch.stack([torch.from_numpy(scores.probs) for scores in members]).mean(dim=0)
    made = ranked(probs_RN, torch.zeros(len(probs_RN)), top, None if subset is None else torch.tensor(subset))
    seconds = [scores.seconds for scores in members]
    whole = None if None in seconds else sum(filter(None, seconds))
    return Scores(*(tensor.numpy() for tensor in made), seconds=whole)


def _behind(probs_RN: Tensor, subset: Tensor | None) -> Tensor:
    """Probabilities of which those outside of `subset` are less than any inside, be it zero."""
    if subset is None:
        return probs_RN
    return torch.full_like(probs_RN, -1.0).index_copy(1, subset, probs_RN[:, subset])
