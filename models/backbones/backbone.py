"""A stack of equal blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import RelativeTime
from models.gpu import availability
from models.inputs.tokens import Tokens
from models.layers.attention_layer import AttentionLayer
from models.layers.chained import can_chain, chain
from models.layers.context import Past, SequenceContext
from models.layers.feed_forward_layer import FeedForwardLayer
from models.layers.norm import make_norm
from models.layers.rope import RotaryEmbedding
from models.layers.settings import BlockSettings
from models.layers.transferred import Transferred


class Block(nn.Module):
    """Attention, then a feed-forward network."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.attention = AttentionLayer(settings)
        self.feed_forward = FeedForwardLayer(settings)

    def forward(self, x: Tensor, context: SequenceContext) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        out: Tensor = self.feed_forward(self.attention(x, context))
        return out


class Backbone(Transferred):
    """Blocks and, for some kinds, a final norm.

    Args:
        settings: of every block.
        blocks: number of blocks.
        final_norm: whether a norm follows the last block.
        local: of semi-local attention, tokens of the window and at the front; None: a token sees all before.
    """

    def __init__(
        self,
        settings: BlockSettings,
        *,
        blocks: int,
        final_norm: bool,
        local: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.local, self.transfer = local, settings.transfer
        # HSTU's block is attention alone.
        make_block = AttentionLayer if settings.feed_forward == "none" else Block
        self.blocks = nn.ModuleList(make_block(settings) for _ in range(blocks))
        self.norm = make_norm(settings.norm if final_norm else "none", settings.dim, settings.norm_eps)
        rotates = settings.bias == "rope"
        self.rope = RotaryEmbedding(settings.query_dim, settings.max_tokens) if rotates else None
        self.recompute = settings.recompute

    def forward(self, x: Tensor, tokens: Tokens, past: Past | None = None) -> Tensor:
        """[tokens, dim] -> [tokens, dim]; a token attends to what the mask of `tokens` lets it see.

        Args:
            x: token vectors.
            tokens: what is known of them.
            past: where all tokens but the last ones of each sequence are remembered; x and `tokens` are then
                of these last ones alone.
        """
        context = self._context(x, tokens, past)
        in_place = past is not None and past.in_place
        if (in_place or availability.runs_on(x)) and can_chain(self.blocks):
            chained: Tensor = self.norm(chain(self.blocks, x, context))
            return chained
        for block in self.blocks:
            if self.recompute == "block" and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)
        out: Tensor = self.norm(x)
        return out

    @property
    def attention_layers(self) -> list[AttentionLayer]:
        """Those of all blocks, from the first on."""
        return [module for module in self.modules() if isinstance(module, AttentionLayer)]

    def _context(self, x: Tensor, tokens: Tokens, past: Past | None) -> SequenceContext:
        sequences, timestamp, queries = tokens.sequences, tokens.timestamp, None
        if past is not None:
            sequences, timestamp, queries = past.sequences, past.timestamp, tokens.sequences
        return SequenceContext(
            sequences=sequences,
            relative_time=RelativeTime(tokens.query_time, timestamp, sequences, queries),
            mask=tokens.mask if self.local is None else tokens.mask.within(*self.local),
            rotation=None if self.rope is None else self.rope(tokens.position, x.dtype),
            attributes=tokens.attributes,
            queries=queries,
            past=past,
        )
