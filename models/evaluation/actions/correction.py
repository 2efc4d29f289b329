"""Probabilities of a model that was trained on a sample of the negatives, corrected for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]


def corrected_logits(logits: npt.NDArray, rate: float | npt.NDArray) -> Float64Array:
    """Logits as if all negatives had been trained on: `z + log w`.

    That is `p / (p + (1 - p) / w)` of the probability (He et al., 2014, section 6.3), the prior correction of
    case-control samples (King and Zeng, 2001, eq. 7). Where w is the same for all rows, AUC stays as it is.

    Args:
        logits: [rows] of the model.
        rate: w, the share of the negatives that were trained on; or [rows], where it depends on the item.

    Raises:
        ValueError: a rate is not above 0.
    """
    w = np.asarray(rate, np.float64)
    if not (w > 0).all():
        raise ValueError("the share of negatives that were trained on must be above 0")
    found: Float64Array = np.asarray(logits, np.float64) + np.log(w)
    return found


def sampling_rate(ratio: float, chances: npt.NDArray) -> Float64Array:
    """The expected number of times that an item is drawn as a negative for one positive: `ratio * chance`.

    With it, `corrected_logits` gives the odds that an event of the user is on the item: each event is an
    action on one item and none on all others, and `ratio` of those others are drawn, item i with probability
    `chances[i]`. Where a user's own items are left out of the draws, the others come a little more often.

    Args:
        ratio: negatives for a positive.
        chances: [rows] of the item of each row (`behavior.sampling.negatives.item_chances`).
    """
    found: Float64Array = ratio * np.asarray(chances, np.float64)
    return found
