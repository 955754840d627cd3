"""Probabilities -> scores: the most probable classes, of one model or of an ensemble.

An ensemble has the mean of its members' probabilities. Equal probabilities are ordered by class index.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of R images.

    `classes` (R, top) are the most probable classes, ties by class index, and `top_probs` their probabilities; `probs`
    (R, N) are the probabilities of all classes, and `sq_prob` (R) is the sum of their squares. `logsumexp` (R) plus the
    logarithm of a probability is a logit. `seconds` is the time it took; None for the first images of an engine, which
    warm it up.
    """

    classes: np.ndarray
    top_probs: np.ndarray
    probs: np.ndarray
    sq_prob: np.ndarray
    logsumexp: np.ndarray
    seconds: float | None


def ranked(probs_RN: Tensor, logsumexp_R: Tensor, top: int, subset: Tensor | None) -> tuple[Tensor, ...]:
    """The arrays of `Scores`, in its order, from probabilities (R, N) and logsumexp (R)."""
    # Stable, so that ties stay in the order of classes; classes outside of `subset` come last.
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

    Their logarithms serve as logits, so `logsumexp` is zero.
    """
    probs_RN = torch.stack([torch.from_numpy(scores.probs) for scores in members]).mean(dim=0)
    made = ranked(probs_RN, torch.zeros(len(probs_RN)), top, None if subset is None else torch.tensor(subset))
    seconds = [scores.seconds for scores in members]
    whole = None if None in seconds else sum(filter(None, seconds))
    return Scores(*(tensor.numpy() for tensor in made), seconds=whole)


def _behind(probs_RN: Tensor, subset: Tensor | None) -> Tensor:
    """Probabilities, with -1 for classes outside of `subset`: less than any inside, even zero."""
    if subset is None:
        return probs_RN
    return torch.full_like(probs_RN, -1.0).index_copy(1, subset, probs_RN[:, subset])
