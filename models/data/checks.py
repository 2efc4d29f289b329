"""What must hold for the tensors of a packed batch. Each check raises ValueError where it does not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.data.columns import Columns


def check_columns(columns: Columns, values: Mapping[str, Tensor]) -> None:
    """The columns are those declared, flat, of their dtype, of one length and on one device."""
    if set(values) != set(columns.names):
        raise ValueError(f"there are {', '.join(values)}, not {', '.join(columns.names)}")
    for column in columns:
        _check_flat(column.name, values[column.name], column.torch_dtype, values["item"].device)
        if values[column.name].shape != values["item"].shape:
            raise ValueError(f"{column.name} and item differ in length")


def check_sequences(item: Tensor, offsets: Tensor, sequence: Tensor) -> None:
    """Offsets rise from 0 to the number of events, and there is a row number for each sequence."""
    _check_flat("offsets", offsets, torch.int64, item.device)
    _check_flat("sequence", sequence, torch.int64, item.device)
    if offsets.numel() == 0 or int(offsets[0]) != 0 or int(offsets[-1]) != len(item):
        raise ValueError(f"offsets must run from 0 to the number of events, {len(item)}")
    if bool((offsets.diff() < 0).any()):
        raise ValueError("offsets must not fall")
    if len(sequence) != len(offsets) - 1:
        raise ValueError(f"sequence has {len(sequence)} rows for {len(offsets) - 1} sequences")


def check_values(values: Mapping[str, Tensor], offsets: Tensor) -> None:
    """Positions count up in each sequence; items and targets are ids, and no item is padding."""
    if "position" in values:
        position = values["position"]
        starts = torch.repeat_interleave(offsets[:-1], offsets.diff())
        if bool((position != torch.arange(len(position), device=position.device) - starts).any()):
            raise ValueError("positions must count up from 0 within each sequence")
    if any(bool((values[name] < 0).any()) for name in ("item", "target") if name in values):
        raise ValueError("items and targets cannot be negative")
    if bool((values["item"] == 0).any()):
        raise ValueError("item 0 is padding, which a packed batch does not have")


def _check_flat(name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    if tensor.dtype != dtype or tensor.ndim != 1:
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(f"{name} must be flat and {kind}, not {list(tensor.shape)} {tensor.dtype}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, item on {device}")
