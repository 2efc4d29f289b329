"""Weights that a model has or has not by what its data set has something for.

A module with such parameters has `of_data`, the names of all that some data set has something for, whether
this one does or not: its settings leave open which.
"""

from __future__ import annotations

from torch import Tensor, nn


def fitted(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model for another data set, with those of such parameters that this module has.

    What its data set has nothing for is left out, and where the other had nothing for it, it stays fresh.

    Args:
        module: for this data set, with fresh weights.
        weights: of a module for another one.
    """
    own = module.state_dict()
    names = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        for name in getattr(part, "of_data", ())
    }
    kept = {name: weight for name, weight in weights.items() if name in own or name not in names}
    fresh = {name: own[name].cpu().clone() for name in names & own.keys() - kept.keys()}
    return kept | fresh
