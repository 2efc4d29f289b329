"""Events that are seen more than once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.scaling.laws.law import Array


def effective_of_repeated(tokens: npt.ArrayLike, unique: npt.ArrayLike, decay: float) -> Array:
    """Tokens in terms of fresh ones (Muennighoff et al. 2023, equation 5): `U + U R (1 - exp(-(e - 1) / R))`.

    U are the unique events, e = tokens / U the epochs; the first epoch counts in full, and the k-th one for
    about `exp(-(k - 1) / R)` of that, so that no number of epochs is worth more than 1 + R.

    Args:
        tokens: seen in training.
        unique: distinct events among them.
        decay: R, above 0.
    """
    tokens, unique = (np.asarray(values, np.float64) for values in (tokens, unique))
    again = np.maximum(tokens / unique - 1, 0.0)
    return np.asarray(np.minimum(tokens, unique) - unique * decay * np.expm1(-again / decay))
