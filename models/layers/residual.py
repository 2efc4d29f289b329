"""Residual connections of attention and feed-forward: where norms are applied, and what is added to what."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.dropout import Dropout
from models.layers.initialization import init_linear
from models.layers.kinds import NormKind, ResidualKind, check_choice
from models.layers.norm import make_norm, norm_for_product


class Residual(nn.Module):
    """The residual connection around a sublayer f, attention or feed-forward.

    - `hstu`, `pre_norm`: `x + f(norm(x))` (GPT-2, Llama; `hstu` where a block is attention alone).
    - `post_norm`: `norm(x + f(x))` (the original Transformer, GPT-1).
    - `gated`: `x + sigmoid(W x + b) * f(norm(x))` (LiGR, arXiv 2502.03417).
    - `sasrec`: `h + f(h)` with `h = norm(x)`: the residual path starts after the norm (arXiv 1808.09781).

    Dropout is applied to the output of f.

    Args:
        kind: one of these.
        dim: width of x.
        norm: kind of norm.
        eps: of the norm.
        dropout: probability, on the output of f.
        scale: factor of what is added to the residual path.

    Raises:
        ValueError: there is no such kind of residual or norm.
    """

    def __init__(
        self, kind: ResidualKind, dim: int, norm: NormKind, eps: float, dropout: float, scale: float = 1.0
    ) -> None:
        super().__init__()
        check_choice("residual", kind, ResidualKind)
        self.kind, self.scale = kind, scale
        self.norm = make_norm(norm, dim, eps)
        self.dropout = Dropout(dropout)
        self.gate = nn.Linear(dim, dim) if kind == "gated" else None
        if self.gate is not None:
            init_linear(self.gate, std=None)

    def enter(self, x: Tensor) -> Tensor:
        """Input of f, [tokens, dim]."""
        if self.kind == "post_norm":
            return x
        # In SASRec, the residual path begins here.
        return self.norm(x) if self.kind == "sasrec" else norm_for_product(self.norm, x)

    def leave(self, x: Tensor, entered: Tensor, result: Tensor) -> Tensor:
        """Output of the sublayer, [tokens, dim].

        Args:
            x: [tokens, dim] input of the sublayer.
            entered: [tokens, dim] of `enter`.
            result: [tokens, dim] output of f.
        """
        result = self.dropout(result)
        if self.scale != 1.0:
            result = self.scale * result
        if self.kind == "post_norm":
            return self.norm(result + x)
        if self.kind == "sasrec":
            return result + entered
        if self.gate is not None:
            result = self.gate(x).sigmoid() * result
        return result + x
