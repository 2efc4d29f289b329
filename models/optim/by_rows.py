"""Optimizers of item tables that touch no row but those that a step found a gradient for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.distributed.tables import ItemTable, RowGradient
from models.optim import kernels


class RowOptimizer(torch.optim.Optimizer):
    """Takes steps by `ItemTable.row_gradient`; a step's cost follows the look-ups, not the rows of a table.

    Rows without a gradient, and those whose gradient is zero, stay as they are: weight, state, decay and all.
    Nothing waits for the device, and shapes do not depend on which rows these are.

    Args:
        tables: each in one group; they keep gradients by row from now on.
        decays: decoupled weight decay of each table: `w *= 1 - lr * decay` of a row before it is updated.
        **defaults: of every group.
    """

    def __init__(self, tables: Sequence[ItemTable], decays: Sequence[float], **defaults: Any) -> None:
        groups = [
            {"params": [table.weight], "weight_decay": decay}
            for table, decay in zip(tables, decays, strict=True)
        ]
        super().__init__(groups, defaults)
        self.tables = tables
        for table in tables:
            table.keep_row_gradients()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the last step."""
        for table in self.tables:
            table.clear_gradients()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step with the gradients there are."""
        assert closure is None
        for table, group in zip(self.tables, self.param_groups, strict=True):
            gradient = table.row_gradient
            state = self.state[table.weight]
            if not state:
                shapes = self.state_shapes(table.weight.shape)
                state |= {name: table.weight.new_zeros(shape) for name, shape in shapes.items()}
            if "steps" in state:
                state["steps"] += 1.0
            if kernels.fits(table.weight):
                kernels.step(table.weight, *gradient, state, group)
                continue
            found = gradient.values.square().mean(1)  # [n]
            touched = found > 0
            kept = torch.where(touched, 1.0 - group["lr"] * group["weight_decay"], 1.0)
            weight = table.weight.index_select(0, gradient.rows) * kept[:, None]
            weight += self.change(gradient, found, touched, state, group)
            table.weight.index_copy_(0, gradient.rows, weight)

    @staticmethod
    @abstractmethod
    def state_shapes(shape: torch.Size) -> dict[str, torch.Size]:
        """Names and shapes of the state of a table of that shape, all float32."""

    @abstractmethod
    def change(
        self,
        gradient: RowGradient,
        mean_square: Tensor,
        touched: Tensor,
        state: dict[str, Tensor],
        group: dict[str, Any],
    ) -> Tensor:
        """Bring the state up to date; gives what is added to the rows, zeros for those that are not touched.

        Args:
            gradient: of n places.
            mean_square: [n] of the gradient of each.
            touched: [n] bool, where that is not zero.
            state: of the table.
            group: settings.
        """


class SparseRowwiseAdagrad(RowOptimizer):
    """`models.optim.rowwise_adagrad.RowwiseAdagrad` by rows, as FBGEMM's `EXACT_ROWWISE_ADAGRAD` does it.

    Without weight decay it is the same to rounding; decay is that of the rows that are touched alone.

    Args:
        tables, decays: see `RowOptimizer`.
        lr: learning rate.
        eps: keeps the first steps of a row finite.
    """

    def __init__(
        self, tables: Sequence[ItemTable], decays: Sequence[float], lr: float, eps: float = 1e-8
    ) -> None:
        super().__init__(tables, decays, lr=lr, eps=eps)

    @staticmethod
    def state_shapes(shape: torch.Size) -> dict[str, torch.Size]:
        return {"sum": shape[:1]}

    def change(
        self,
        gradient: RowGradient,
        mean_square: Tensor,
        touched: Tensor,
        state: dict[str, Tensor],
        group: dict[str, Any],
    ) -> Tensor:
        """See `RowOptimizer.change`."""
        sums = state["sum"].index_select(0, gradient.rows) + mean_square
        state["sum"].index_copy_(0, gradient.rows, sums)
        rate = group["lr"] / (sums.sqrt() + group["eps"])
        return gradient.values * -rate[:, None]


class SparseAdam(RowOptimizer):
    """AdamW by rows, whose moments decay lazily (as `torch.optim.SparseAdam`, but for that decay).

    For a row with gradient g at step t, which was last touched at step s:

        m = beta_1^(t - s) m + (1 - beta_1) g,    v = beta_2^(t - s) v + (1 - beta_2) g^2
        w = (1 - lr * decay) w - lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + eps)

    Moments of the rows that are touched so are those of AdamW. What AdamW does besides, going on with a row
    for some steps after its gradient, and decaying all rows, is left out.

    Args:
        tables, decays: see `RowOptimizer`.
        lr: learning rate.
        betas: decay rates of both moments.
        eps: keeps the quotient finite.
    """

    def __init__(
        self,
        tables: Sequence[ItemTable],
        decays: Sequence[float],
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
    ) -> None:
        super().__init__(tables, decays, lr=lr, betas=betas, eps=eps)

    @staticmethod
    def state_shapes(shape: torch.Size) -> dict[str, torch.Size]:
        return {"steps": torch.Size(), "last": shape[:1], "exp_avg": shape, "exp_avg_sq": shape}

    def change(
        self,
        gradient: RowGradient,
        mean_square: Tensor,
        touched: Tensor,
        state: dict[str, Tensor],
        group: dict[str, Any],
    ) -> Tensor:
        """See `RowOptimizer.change`."""
        rows, values = gradient
        step = state["steps"]
        last = state["last"].index_select(0, rows)
        state["last"].index_copy_(0, rows, torch.where(touched, step, last))
        moments = []
        for name, beta, power in zip(("exp_avg", "exp_avg_sq"), group["betas"], (1, 2), strict=True):
            fading = beta ** (step - last)
            before = state[name].index_select(0, rows)
            now = before * fading[:, None] + (1.0 - beta) * values**power
            state[name].index_copy_(0, rows, torch.where(touched[:, None], now, before))
            moments.append(now / (1.0 - beta**step))
        moved = -group["lr"] * moments[0] / (moments[1].sqrt() + group["eps"])
        return moved.masked_fill_(~touched[:, None], 0.0)
