"""The step whose loss or gradient was not finite, kept in a file: its batches, and what is known about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save

from models.data.batch import PackedBatch
from models.data.columns import Column, Columns
from models.data.declared import CORE
from models.runs.files import write_atomically
from models.training.step import TakenStep

_METADATA = "lrm-kit failed step"


def save_failed_step(path: Path, step: TakenStep) -> None:
    """Write a step's micro-batches: tensors `<part>.<column>`, and a note in the file's metadata."""
    tensors = {
        f"{number}.{name}": tensor.clone()
        for number, part in enumerate(step.parts)
        for name, tensor in {**part.values, "offsets": part.offsets, "sequence": part.sequence}.items()
    }
    note = {
        "step": step.number,
        "epoch": step.epoch + 1,
        # Numbers as text: JSON has no word for NaN.
        "losses": [str(loss.item()) for loss in step.losses],
        "gradient_norm": None if step.gradient_norm is None else str(step.gradient_norm.item()),
        "learning_rate": step.learning_rate,
        "has_time": step.parts[0].has_time,
        "columns": [(column.name, column.dtype, str(column.fill)) for column in step.parts[0].columns],
    }
    write_atomically(path, save(tensors, metadata={_METADATA: json.dumps(note)}))


def load_failed_step(path: Path) -> tuple[list[PackedBatch], dict[str, Any]]:
    """The micro-batches of a failed step, and the note about it.

    Returns:
        The micro-batches.
        `step` (from 1), `epoch` (from 1), `losses` (of each micro-batch) and `gradient_norm` as text,
        `learning_rate`, `has_time`, and `columns` (name, dtype and fill value, as text, of each).
    """
    with safe_open(path, framework="pt") as file:
        note: dict[str, Any] = json.loads(file.metadata()[_METADATA])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    columns = _columns(note)
    batches = [
        PackedBatch(
            columns,
            {name: tensors[f"{part}.{name}"] for name in columns.names},
            tensors[f"{part}.offsets"],
            tensors[f"{part}.sequence"],
            has_time=note["has_time"],
        ).validate()
        for part in range(len(note["losses"]))
    ]
    return batches, note


def _columns(note: dict[str, Any]) -> Columns:
    # Earlier files have the core columns and do not say so.
    if "columns" not in note:
        return CORE
    return Columns(tuple(Column(name, dtype, float(fill)) for name, dtype, fill in note["columns"]))
