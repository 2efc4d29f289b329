"""The kinds of loss, by name, for settings: imports neither torch nor pydantic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossKind:
    """What settings know of a loss."""

    description: str
    """In a few words, for `--help`."""
    softmax: bool = False
    """Whether it is a cross-entropy over candidates: takes label smoothing and the logQ correction."""


LOSSES: dict[str, LossKind] = {
    "sampled_softmax": LossKind("cross-entropy over the target and sampled negatives", softmax=True),
    "full_softmax": LossKind("over all known items", softmax=True),
    "bce": LossKind("binary cross-entropy (SASRec)"),
    "gbce": LossKind("bce calibrated for the number of negatives (gSASRec)"),
}
"""By the name in `loss.kind`. All but full_softmax are formulas of `models.losses.formulas.FORMULAS`."""
