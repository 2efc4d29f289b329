"""The stack: equal blocks, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import Causal, RelativeTime
from models.data.batch import PackedBatch
from models.layers.attention_layer import AttentionLayer
from models.layers.context import SequenceContext
from models.layers.feed_forward_layer import FeedForwardLayer
from models.layers.norm import make_norm
from models.layers.rope import RotaryEmbedding
from models.layers.settings import BlockSettings


class Block(nn.Module):
    """Attention, then a feed-forward."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.attention = AttentionLayer(settings)
        self.feed_forward = FeedForwardLayer(settings)

    def forward(self, x: Tensor, context: SequenceContext) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        out: Tensor = self.feed_forward(self.attention(x, context))
        return out


class Backbone(nn.Module):
    """Blocks and, for some kinds, a last norm.

    Args:
        settings: of every block.
        blocks: their number.
        final_norm: whether a norm follows the last block.
    """

    def __init__(self, settings: BlockSettings, *, blocks: int, final_norm: bool) -> None:
        super().__init__()
        # HSTU's block is attention alone.
        make_block = AttentionLayer if settings.feed_forward == "none" else Block
        self.blocks = nn.ModuleList(make_block(settings) for _ in range(blocks))
        self.norm = make_norm(settings.norm if final_norm else "none", settings.dim, settings.norm_eps)
        rotates = settings.bias == "rope"
        self.rope = RotaryEmbedding(settings.query_dim, settings.max_length) if rotates else None
        self.recompute = settings.recompute

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """[tokens, dim] -> [tokens, dim]; sequences of `batch` do not see each other."""
        context = self._context(x, batch)
        for block in self.blocks:
            if self.recompute == "block" and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)
        out: Tensor = self.norm(x)
        return out

    def _context(self, x: Tensor, batch: PackedBatch) -> SequenceContext:
        return SequenceContext(
            sequences=batch.sequences,
            relative_time=RelativeTime(batch.query_time, batch.timestamp, batch.sequences),
            mask=Causal(),
            rotation=None if self.rope is None else self.rope(batch.position, x.dtype),
        )
