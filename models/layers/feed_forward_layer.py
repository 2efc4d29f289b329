"""The feed-forward sublayer of a block, with norm and residual."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.feed_forward import FeedForward, SwiGLU
from models.layers.recompute import keep_inputs_only
from models.layers.residual import Residual
from models.layers.settings import BlockSettings


class FeedForwardLayer(nn.Module):
    """The second sublayer of a block, where it has one."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.recompute = settings.recompute
        self.residual = Residual(
            settings.residual,
            settings.dim,
            settings.norm,
            settings.norm_eps,
            settings.hidden_dropout,
            settings.transfer.residual,
        )
        self.network = _network(settings)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        if self.recompute == "pointwise" and torch.is_grad_enabled():
            # Saved: x, the hidden layer before its activation, and the mask.
            mask = self.network.draw(x)
            entered, hidden = keep_inputs_only(self._widen, x, mask)
            result = keep_inputs_only(self.network.narrow, hidden, mask)
        else:
            entered = self.residual.enter(x)
            result = self.network(entered)
        return self.residual.leave(x, entered, result)

    def _widen(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        entered = self.residual.enter(x)
        return entered, self.network.widen(entered, mask)


def _network(settings: BlockSettings) -> FeedForward | SwiGLU:
    sizes = settings.dim, settings.feed_forward_width, settings.feed_forward_dropout
    bias, std, output_std = settings.feed_forward_bias, settings.feed_forward_std, settings.output_std
    kind = settings.feed_forward
    if kind == "relu" or kind == "gelu":
        return FeedForward(kind, *sizes, bias=bias, std=std, output_std=output_std)
    if kind == "swiglu" or kind == "multi_stage":
        on_input = kind == "multi_stage"
        return SwiGLU(*sizes, dropout_on_input=on_input, bias=bias, std=std, output_std=output_std)
    raise ValueError(f"there is no feed-forward network '{kind}'")
