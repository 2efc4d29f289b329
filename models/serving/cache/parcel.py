"""Arrays of a call in one buffer, which goes to the device in one copy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

Arrays = Mapping[str, Tensor]
_ALIGNED = 16


class Field(NamedTuple):
    """Room for one array."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Parcel:
    """Where arrays are in a buffer.

    Args:
        fields: by name.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields, self.places, end = fields, dict[str, tuple[int, int]](), 0
        for name, (dtype, shape) in fields.items():
            size = math.prod(shape) * dtype.itemsize
            self.places[name] = end, size
            end += -(-size // _ALIGNED) * _ALIGNED
        self.nbytes = end

    def buffer(self, device: torch.device) -> Tensor:
        """[bytes] for them."""
        return torch.empty(self.nbytes, dtype=torch.uint8, device=device)

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """The arrays in it."""
        return {
            name: buffer[first : first + size].view(self.fields[name].dtype).view(self.fields[name].shape)
            for name, (first, size) in self.places.items()
        }

    def put(self, buffer: Tensor, values: Mapping[str, Tensor | npt.NDArray]) -> None:
        """Fill a buffer, without waiting for its device; zeros where there is more room than values.

        Args:
            buffer: of `buffer`.
            values: of every field, no larger than it; on the host, or on the buffer's device.
        """
        on_gpu = buffer.device.type == "cuda"
        host = torch.zeros(self.nbytes, dtype=torch.uint8, pin_memory=on_gpu)
        there, later = self.views(host), dict[str, Tensor]()
        for name, value in values.items():
            tensor = value if isinstance(value, Tensor) else torch.from_numpy(value)
            if tensor.device != host.device:
                later[name] = tensor
                continue
            _corner(there[name], tensor).copy_(tensor)
        buffer.copy_(host, non_blocking=True)
        if later:
            views = self.views(buffer)
            for name, tensor in later.items():
                _corner(views[name], tensor).copy_(tensor)


def _corner(room: Tensor, value: Tensor) -> Tensor:
    return room[tuple(slice(size) for size in value.shape)]
