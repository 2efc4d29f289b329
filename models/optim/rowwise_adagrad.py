"""Adagrad with one number of state a row, for embedding tables too large to be held three times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class RowwiseAdagrad(torch.optim.Optimizer):
    """Row-wise Adagrad (Duchi et al., 2011; by rows as in FBGEMM's `EXACT_ROWWISE_ADAGRAD`).

    For each row with gradient g: `G += mean(g^2)`; `w -= lr * g / (sqrt(G) + eps)`. Rows without a gradient
    stay as they are, but for weight decay. There is no momentum; state is a float32 a row.

    Args:
        tables: parameters of shape [rows, dim].
        lr: learning rate.
        eps: keeps the first steps of a row finite.
        weight_decay: decoupled, on all rows: `w *= 1 - lr * weight_decay` before each step.
    """

    def __init__(
        self,
        tables: Iterable[nn.Parameter],
        lr: float = 1e-2,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(tables, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    @staticmethod
    def state_shapes(shape: torch.Size) -> dict[str, torch.Size]:
        """Names and shapes of the state of a table of that shape, all float32."""
        return {"sum": shape[:1]}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step with the gradients there are."""
        assert closure is None
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, table.grad, group)

    def _update(self, table: nn.Parameter, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["sum"] = torch.zeros(len(table), dtype=torch.float32, device=table.device)
        if group["weight_decay"]:
            table.mul_(1.0 - group["lr"] * group["weight_decay"])
        rows = state["sum"]  # [rows]
        # The norm squares without a temporary of the table's size.
        rows += torch.linalg.vector_norm(grad, dim=1, dtype=torch.float32).square_() / grad.shape[1]
        rate = group["lr"] / (rows.sqrt() + group["eps"])
        table.addcmul_(grad, rate[:, None].to(grad.dtype), value=-1.0)
