"""Queries and keys of features of events, apart from those of items (DIF-SR, arXiv 2204.11046)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.context import SequenceContext
from models.layers.initialization import init_linear
from models.layers.settings import BlockSettings


class AttributeProjections(nn.Module):
    """`Q_j = E_j Wq_j`, `K_j = E_j Wk_j` of every feature j, whose embeddings E_j are the same in all blocks.

    The scores of attention are `Q K^T + sum_j Q_j K_j^T`, the additive fusion of DIF-SR; so those of all
    features stand next to each other. As in DIF-SR, scores are scaled by the item's width alone. Projections
    have no biases: those of keys would do nothing in a softmax.
    """

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.heads = settings.heads
        width = settings.heads * settings.attribute_dim
        count = range(settings.attributes)
        self.query = nn.ModuleList(nn.Linear(settings.dim, width, bias=False) for _ in count)
        self.key = nn.ModuleList(nn.Linear(settings.dim, width, bias=False) for _ in count)
        for layer in (*self.query, *self.key):
            assert isinstance(layer, nn.Linear)
            # Xavier, whatever the backbone: no norm makes embeddings longer, and with weights of the usual
            # 0.02 the scores of features would be too small at first to be told from none.
            init_linear(layer, None)

    def forward(self, context: SequenceContext) -> tuple[Tensor, Tensor]:
        """[tokens, heads, attributes * attribute_dim] queries and keys."""
        return self._side_by_side(self.query, context), self._side_by_side(self.key, context)

    def _side_by_side(self, layers: nn.ModuleList, context: SequenceContext) -> Tensor:
        parts = [
            layer(vectors).unflatten(-1, (self.heads, -1))
            for layer, vectors in zip(layers, context.attributes, strict=True)
        ]
        return torch.cat(parts, dim=-1)
