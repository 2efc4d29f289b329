"""Checkpoints hold whole item tables, whatever the number of processes that save or load them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from models.distributed.tables.table import ItemTable

Convert = Callable[[ItemTable, Tensor], Tensor]


class WholeStates:
    """Converts states of a model and its optimizer to those of a model whose tables are whole, and back.

    Args:
        model: its state is `model.state_dict()`.
        parameters: as the optimizer's state numbers them; the weight of every item table is among them.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
        self.tables = [
            (table, f"{name}.weight" if name else "weight", numbers[id(table.weight)])
            for name, table in model.named_modules()
            if isinstance(table, ItemTable)
        ]

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table when it is whole, by the name of its weight."""
        return {name: table.num_embeddings for table, name, _ in self.tables}

    @property
    def rows_by_number(self) -> dict[int, int]:
        """The same by the weight's number in the optimizer's state."""
        return {number: table.num_embeddings for table, _, number in self.tables}

    def whole_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A model's state with whole tables, on the first process. Collective."""
        return self._weights(weights, _gathered)

    def whole_optimizer(self, state: dict[str, Any]) -> dict[str, Any]:
        """The same of an optimizer's state."""
        return self._optimizer(state, _gathered)

    def own_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of a model's state with whole tables."""
        return self._weights(weights, _own_part)

    def own_optimizer(self, state: dict[str, Any]) -> dict[str, Any]:
        """The same of an optimizer's state."""
        return self._optimizer(state, _own_part)

    def _weights(self, weights: dict[str, Tensor], convert: Convert) -> dict[str, Tensor]:
        return weights | {
            name: convert(table, weights[name]) for table, name, _ in self.tables if name in weights
        }

    def _optimizer(self, state: dict[str, Any], convert: Convert) -> dict[str, Any]:
        changed = {
            # What has no rows counts steps.
            number: {
                name: convert(table, value) if value.ndim else value
                for name, value in state["state"][number].items()
            }
            for table, _, number in self.tables
            if number in state["state"]
        }
        return state | {"state": state["state"] | changed}


def _gathered(table: ItemTable, own: Tensor) -> Tensor:
    return table.gathered(own)


def _own_part(table: ItemTable, whole: Tensor) -> Tensor:
    return table.own_part(whole)
