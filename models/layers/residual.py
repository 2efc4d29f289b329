"""How attention and feed-forward join the residual path: where norms stand and what is added to what."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.dropout import Dropout
from models.layers.initialization import init_linear
from models.layers.kinds import NormKind, ResidualKind
from models.layers.norm import make_norm, norm_for_product


class Residual(nn.Module):
    """The way into a function f (attention or feed-forward) and out of it.

    - `hstu`, `pre_norm`: `x + f(norm(x))` (GPT-2, Llama; `hstu` is its name where a block has one f only).
    - `post_norm`: `norm(x + f(x))` (the first Transformer, GPT-1).
    - `gated`: `x + sigmoid(W x + b) * f(norm(x))` (LiGR, arXiv 2502.03417).
    - `sasrec`: `h + f(h)` with `h = norm(x)`: the residual path starts behind the norm (arXiv 1808.09781).

    The result of f goes through dropout first.

    Args:
        kind: one of these.
        dim: width of x.
        norm: kind of norm.
        eps: of the norm.
        dropout: probability, on the result of f.
    """

    def __init__(self, kind: ResidualKind, dim: int, norm: NormKind, eps: float, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        self.norm = make_norm(norm, dim, eps)
        self.dropout = Dropout(dropout)
        self.gate = nn.Linear(dim, dim) if kind == "gated" else None
        if self.gate is not None:
            init_linear(self.gate, std=None)

    def enter(self, x: Tensor) -> Tensor:
        """What f is given, [tokens, dim]."""
        if self.kind == "post_norm":
            return x
        # In SASRec's pattern, the residual path begins here.
        return self.norm(x) if self.kind == "sasrec" else norm_for_product(self.norm, x)

    def leave(self, x: Tensor, entered: Tensor, result: Tensor) -> Tensor:
        """The end of the sublayer.

        Args:
            x: [tokens, dim] input of the sublayer.
            entered: [tokens, dim] what `enter` made of it.
            result: [tokens, dim] what f made of that.
        """
        result = self.dropout(result)
        if self.kind == "post_norm":
            return self.norm(result + x)
        if self.kind == "sasrec":
            return result + entered
        if self.gate is not None:
            result = self.gate(x).sigmoid() * result
        return result + x
