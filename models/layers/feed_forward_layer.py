"""A feed-forward network with its norm and residual."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.feed_forward import FeedForward, SwiGLU
from models.layers.residual import Residual
from models.layers.settings import BlockSettings


class FeedForwardLayer(nn.Module):
    """The second half of a block, where it has one."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.residual = Residual(
            settings.residual, settings.dim, settings.norm, settings.norm_eps, settings.hidden_dropout
        )
        self.network = _network(settings)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        entered = self.residual.enter(x)
        return self.residual.leave(x, entered, self.network(entered))


def _network(settings: BlockSettings) -> nn.Module:
    sizes = settings.dim, settings.feed_forward_width, settings.feed_forward_dropout
    bias, std, output_std = settings.feed_forward_bias, settings.feed_forward_std, settings.output_std
    kind = settings.feed_forward
    if kind == "relu" or kind == "gelu":
        return FeedForward(kind, *sizes, bias=bias, std=std, output_std=output_std)
    on_input = kind == "multi_stage"
    return SwiGLU(*sizes, dropout_on_input=on_input, bias=bias, std=std, output_std=output_std)
