"""Long-sequence sampling: which events of a training history are a sample's inputs; sampled negatives.

In: where histories begin and end, the behaviors of their events, seed and epoch. Out: each sample's inputs.
May import: `behavior.packing` (the cost of a length).
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.sampling.config import Repeat, SamplingConfig, StochasticLength
    from behavior.sampling.repetition import RepeatRule
    from behavior.sampling.sampler import Sampler, Units
    from behavior.sampling.stochastic_length import LengthRule, balance_lengths
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "LengthRule": "stochastic_length",
            "Repeat": "config",
            "RepeatRule": "repetition",
            "Sampler": "sampler",
            "SamplingConfig": "config",
            "StochasticLength": "config",
            "Units": "sampler",
            "balance_lengths": "stochastic_length",
        },
    )

__all__ = [
    "LengthRule",
    "Repeat",
    "RepeatRule",
    "Sampler",
    "SamplingConfig",
    "StochasticLength",
    "Units",
    "balance_lengths",
]
