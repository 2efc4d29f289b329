"""Saved states hold whole tables, whatever the number of processes that saved them or go on from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from models.distributed.sharding.table import ShardedEmbedding


@dataclass(frozen=True)
class StateShards:
    """Where a divided table is in the states of a model and its optimizer."""

    table: ShardedEmbedding
    weight: str
    """Name in the model's state."""
    number: int
    """Of the parameter in the optimizer's state."""

    @classmethod
    def find(cls, model: nn.Module, parameters: Sequence[nn.Parameter]) -> StateShards | None:
        """The divided table of a model, if it has one.

        Args:
            model: has one at most.
            parameters: as the optimizer numbers them.
        """
        for name, part in model.named_modules():
            if isinstance(part, ShardedEmbedding):
                number = next(at for at, parameter in enumerate(parameters) if parameter is part.weight)
                return cls(part, f"{name}.weight", number)
        return None

    def whole_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A model's state as if it were in one place, on the first process. All processes take part."""
        return weights | {self.weight: self.table.whole(weights[self.weight])}

    def whole_optimizer(self, state: dict[str, Any]) -> dict[str, Any]:
        """The same of an optimizer's state."""
        return self._with_rows(state, self.table.whole)

    def own_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of a whole state of a model."""
        return weights | {self.weight: self.table.shards.take(weights[self.weight])}

    def own_optimizer(self, state: dict[str, Any]) -> dict[str, Any]:
        """The same of an optimizer's state."""
        return self._with_rows(state, self.table.shards.take)

    def _with_rows(self, state: dict[str, Any], changed: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        values = state["state"].get(self.number)
        if values is None:
            return state
        # What has no rows counts steps.
        rows = {name: changed(value) if value.ndim else value for name, value in values.items()}
        return state | {"state": state["state"] | {self.number: rows}}
