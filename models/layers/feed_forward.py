"""Position-wise feed-forward networks."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.dropout import Dropout
from models.layers.initialization import init_linear
from models.layers.kinds import check_choice


class FeedForward(nn.Module):
    """`f2(dropout(act(f1(x))))` with ReLU (SASRec, arXiv 1808.09781, eq. 6) or GELU by tanh (GPT).

    SASRec's own code writes the linear layers as convolutions of width 1.

    Args:
        kind: `relu` or `gelu`.
        dim: width of x.
        width: hidden width.
        dropout: probability, after the activation.
        bias: whether the linear layers have biases.
        std: standard deviation of their initial weights; None: Xavier uniform.
        output_std: the same of f2.
    """

    def __init__(
        self,
        kind: Literal["relu", "gelu"],
        dim: int,
        width: int,
        dropout: float,
        *,
        bias: bool,
        std: float | None,
        output_std: float | None,
    ) -> None:
        super().__init__()
        check_choice("feed-forward", kind, Literal["relu", "gelu"])
        self.kind = kind
        self.f1 = nn.Linear(dim, width, bias=bias)
        self.f2 = nn.Linear(width, dim, bias=bias)
        self.dropout = Dropout(dropout)
        init_linear(self.f1, std)
        init_linear(self.f2, output_std)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        return self.narrow(self.widen(x))

    def draw(self, x: Tensor) -> Tensor | None:
        """A mask of dropout for both halves, see `Dropout`."""
        return self.dropout.draw(x.shape[0], self.f2.in_features, device=x.device)

    def widen(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[tokens, dim] -> [tokens, width], before the activation; nothing is dropped here."""
        return self.f1(x)

    def narrow(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """The rest, [tokens, dim]."""
        activated = F.relu(hidden) if self.kind == "relu" else F.gelu(hidden, approximate="tanh")
        return self.f2(self.dropout(activated, mask))


class SwiGLU(nn.Module):
    """`f2(SiLU(W1 x) * W3 x)` (arXiv 2002.05202), W1 and W3 stacked in one layer f1.

    Args:
        dim: width of x.
        width: hidden width.
        dropout: probability.
        dropout_on_input: whether dropout falls on x (FuXi-alpha's second stage) or on the product.
        bias: whether the linear layers have biases.
        std: standard deviation of their initial weights; None: Xavier uniform.
        output_std: the same of f2.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        dropout: float,
        *,
        dropout_on_input: bool,
        bias: bool,
        std: float | None,
        output_std: float | None,
    ) -> None:
        super().__init__()
        self.dropout_on_input = dropout_on_input
        self.f1 = nn.Linear(dim, 2 * width, bias=bias)
        self.f2 = nn.Linear(width, dim, bias=bias)
        self.dropout = Dropout(dropout)
        init_linear(self.f1, std, [width, width])
        init_linear(self.f2, output_std)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        return self.narrow(self.widen(x))

    def draw(self, x: Tensor) -> Tensor | None:
        """A mask of dropout for both halves, see `Dropout`."""
        width = self.f1.in_features if self.dropout_on_input else self.f2.in_features
        return self.dropout.draw(x.shape[0], width, device=x.device)

    def widen(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[tokens, dim] -> [tokens, 2 width], before the activation."""
        return self.f1(self.dropout(x, mask) if self.dropout_on_input else x)

    def narrow(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """The rest, [tokens, dim]."""
        gate, value = hidden.chunk(2, dim=-1)
        product = F.silu(gate) * value
        return self.f2(product if self.dropout_on_input else self.dropout(product, mask))
