"""Attention layers one after the other: what one adds to the residual path is added where the next one's norm
reads it, which saves a pass over the token vectors a layer, and three of their gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.layers.attention_layer import AttentionLayer
from models.layers.context import SequenceContext
from models.layers.norm import add_and_norm

_ADDING = ("hstu", "pre_norm")


def can_chain(blocks: Iterable[nn.Module]) -> bool:
    """Whether each is `x + f(norm(x))` and nothing else, as it is computed here and now."""
    return all(
        isinstance(block, AttentionLayer)
        and block.residual.kind in _ADDING
        and block.residual.scale == 1.0
        and not block.residual.dropout.active
        and not (torch.is_grad_enabled() and block.settings.recompute != "none")
        and _is_plain(block)
        for block in blocks
    )


def _is_plain(block: nn.Module) -> bool:
    """Whether a call of a block is its forward pass: nobody watches it, and it is not compiled."""
    hooks = block._forward_hooks, block._forward_pre_hooks, block._backward_hooks, block._backward_pre_hooks
    return block._compiled_call_impl is None and not any(hooks)


def chain(blocks: Iterable[nn.Module], x: Tensor, context: SequenceContext) -> Tensor:
    """What blocks of which `can_chain` is true make of x, [tokens, dim]."""
    added: Tensor | None = None
    for block in blocks:
        assert isinstance(block, AttentionLayer)
        if added is None:
            entered = block.residual.enter(x)
        else:
            x, entered = add_and_norm(block.residual.norm, x, added)
        added = block.transform(block.project_entered(x, entered), context)
    return x if added is None else x + added
