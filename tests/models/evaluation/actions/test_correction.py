"""The correction for sampled negatives: exact where a model knows the rates, and in a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from behavior.sampling.negatives import item_chances, sample_negatives
from models.evaluation.actions.correction import corrected_logits, sampling_rate
from models.evaluation.actions.losses import probabilities


def test_a_table_of_counts_is_put_right() -> None:
    """Odds of positives to a tenth of the negatives become those to all of them; as He et al. write it."""
    positives, negatives = np.array([1.0, 30.0, 500.0]), np.array([999.0, 300.0, 500.0])
    trained = np.log(positives / (0.1 * negatives))
    np.testing.assert_allclose(
        probabilities(corrected_logits(trained, 0.1)), positives / (positives + negatives)
    )
    p = probabilities(trained)
    np.testing.assert_allclose(probabilities(corrected_logits(trained, 0.1)), p / (p + (1 - p) / 0.1))
    np.testing.assert_array_equal(corrected_logits(trained, 1.0), trained)
    with pytest.raises(ValueError, match="above 0"):
        corrected_logits(trained, np.array([0.1, 0.0, 1.0]))


@pytest.mark.parametrize("drawn", ["uniform", "popularity"])
@pytest.mark.parametrize("ratio", [0.5, 4.0])
def test_sampled_negatives_give_the_chance_of_each_item(drawn: str, ratio: float) -> None:
    """Events choose items by known chances; counting positives and negatives of each item is the model."""
    truth = np.array([0.5, 0.25, 0.15, 0.1])
    generator = np.random.default_rng(0)
    chosen = generator.choice(4, 200_000, p=truth)
    counts = np.bincount(chosen, minlength=4)
    chances = item_chances(counts, drawn)  # type: ignore[arg-type]
    # An event's own item is no negative of it: a user of its own for each event.
    had = np.arange(200_001), chosen
    _, item = sample_negatives(np.arange(200_000), chances, had, ratio=ratio, seed=1)
    logits = np.log(counts / np.bincount(item, minlength=4))
    found = probabilities(corrected_logits(logits, sampling_rate(ratio, chances)))
    # Negatives of an event are drawn from the items besides its own, a little more often than `chances` says.
    besides = np.array([sum(truth[j] / (1 - chances[j]) for j in range(4) if j != i) for i in range(4)])
    np.testing.assert_allclose(found, truth / (truth + besides), atol=0.01)
