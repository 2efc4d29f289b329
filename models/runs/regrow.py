"""Tables of a checkpoint put into the rows of another vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.data.versions import NEW
from models.layers.initialization import INIT_STD, init_truncated
from models.runs.checkpoint import Checkpoint


def regrow(
    checkpoint: Checkpoint, rows: Mapping[str, Tensor], numbers: Mapping[int, str], seed: int
) -> Checkpoint:
    """A checkpoint whose tables have the rows of another vocabulary.

    New rows are drawn as those of fresh tables are; the optimizer has no state of them yet.

    Args:
        checkpoint: with whole tables.
        rows: for each table, by the name of its weight, [rows] which of its rows each one was; negative: new.
        numbers: names of weights by their numbers in the optimizer's state.
        seed: of new rows, in which torch's own generators take no part.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = {
            name: _moved(weight, rows[name], _fresh(weight, rows[name])) if name in rows else weight
            for name, weight in checkpoint.model.items()
        }
    state = checkpoint.optimizer
    if state is not None:
        found = {
            number: _state_moved(values, rows.get(numbers.get(number, "")))
            for number, values in state["state"].items()
        }
        state = {**state, "state": found}
    return replace(checkpoint, model=weights, optimizer=state)


def _fresh(weight: Tensor, rows: Tensor) -> Tensor:
    fresh = weight.new_empty(int((rows < 0).sum()), *weight.shape[1:])
    if not weight.is_floating_point():
        return fresh.fill_(NEW)  # numbers of rows: new ones have none yet
    init_truncated(fresh, INIT_STD)
    return fresh


def _state_moved(values: dict[str, Any], rows: Tensor | None) -> dict[str, Any]:
    if rows is None:
        return values
    new = int((rows < 0).sum())
    return {
        name: _moved(value, rows, value.new_zeros(new, *value.shape[1:])) if value.ndim else value
        for name, value in values.items()
    }


def _moved(values: Tensor, rows: Tensor, fresh: Tensor) -> Tensor:
    if len(rows) and int(rows.max()) >= len(values):
        return values  # damaged: whoever checks it says so
    moved = values.new_empty(len(rows), *values.shape[1:])
    moved[rows >= 0], moved[rows < 0] = values[rows[rows >= 0]], fresh
    return moved
