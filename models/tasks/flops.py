"""Floating-point operations of a training step.

What the mathematics of a model needs is counted, a multiplication and an addition as two: not what a kernel
recomputes to save memory, and nothing that is not a matrix product. Model FLOPs utilization (MFU) is this
over the device's peak (Chowdhery et al., 2022, PaLM, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from models.layers.attention_layer import AttentionLayer
from models.tasks.config import ModelConfig

FORWARD_AND_BACKWARD = 3.0
"""A matrix product has two more in its backward pass, as large as itself."""
_ATTENTION_FORWARD_AND_BACKWARD = 3.5
"""Attention has two products forward and five backward: scores are not kept."""


class StepWork(NamedTuple):
    """How much there is to do in a step."""

    tokens: float
    squared_lengths: float
    """Sum of the squares of the sequences' lengths; under local attention, twice the pairs that are left."""
    positions: float
    """Tokens that have a loss."""
    weight: float = 0.0
    """Sum of their weights in it."""


@dataclass(frozen=True)
class TrainingFlops:
    """Operations of forward and backward pass, by what they grow with."""

    token: float
    """A token: linear layers, 6 an element of their matrices."""
    squared_length: float
    """A squared length: attention, of which the causal half is counted."""
    position: float
    """A position with a loss: what its query is compared with."""
    pair: float = 0.0
    """A pair of a query and a key that it sees: every product of attention once forward, twice backward."""

    def exact(self, work: StepWork) -> float:
        """Operations that the mathematics of a step needs, from its sequences' real lengths.

        Unlike `of`, which says how busy a device is, nothing that a kernel recomputes is counted, and of a
        sequence of n tokens its n (n + 1) / 2 pairs: what laws of compute are about.
        """
        pairs = (work.squared_lengths + work.tokens) / 2.0
        return self.token * work.tokens + self.pair * pairs + self.position * work.positions

    def of(self, work: StepWork) -> float:
        """Operations of a step, with attention's scores made again in the backward pass."""
        return (
            self.token * work.tokens
            + self.squared_length * work.squared_lengths
            + self.position * work.positions
        )


def backbone_flops(model: nn.Module, config: ModelConfig, *, position: float) -> TrainingFlops:
    """Operations of a model whose tokens all go through its linear layers and its backbone's attention.

    Embedding tables are looked up and count nothing.

    Args:
        model: its linear layers are counted.
        config: sizes of the backbone.
        position: operations of the forward and backward pass of the loss, a position.
    """
    matrices = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    # Scores and their product with the values, each 2 * width a pair, and length^2 / 2 pairs.
    layers = [part.settings for part in model.modules() if isinstance(part, AttentionLayer)]
    settings = layers[0] if layers else config.block_settings(config.max_length)
    attention = float(settings.heads * (settings.compared_dim + settings.num_channels * settings.value_dim))
    return TrainingFlops(
        token=FORWARD_AND_BACKWARD * 2.0 * matrices,
        squared_length=_ATTENTION_FORWARD_AND_BACKWARD * config.blocks * attention,
        position=position,
        pair=FORWARD_AND_BACKWARD * 2.0 * config.blocks * attention,
    )


def attended(length: int, local: tuple[int, int] | None) -> int:
    """Twice the pairs of query and key that attention is about: `length^2`, of which half is causal.

    Of n tokens the i-th sees itself and all before it, n^2 / 2 in all. In semi-local attention it misses what
    lies between the front and the window.

    >>> attended(10, None), attended(10, (3, 2))
    (100, 70)

    Args:
        length: tokens of a sequence.
        local: tokens of the window and at the front; None: all before.
    """
    hidden = 0 if local is None else max(length - sum(local), 0)
    # The first token that misses something misses one, the last one `hidden`.
    return length * length - hidden * (hidden + 1)
