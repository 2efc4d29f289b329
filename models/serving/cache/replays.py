"""Passes of shapes that come again: recorded once each as a CUDA graph, and replayed."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from behavior.errors import UserError
from models.gpu.cuda_graph import CudaGraphs, Work
from models.serving.cache.call import Call, Shape
from models.serving.cache.parcel import Arrays, Parcel

MOST_EVENTS = 16_384
"""Passes that compute more keep the device busy without being recorded, and would be padded."""
Compute = Callable[[Arrays], Sequence[Tensor]]


class Replays:
    """What is recorded, by shape; who was asked for least recently leaves.

    Args:
        device: of the passes.
        capture: records work (`models.gpu.cuda_graph.CudaGraphs`).
        most: shapes.
    """

    def __init__(self, device: torch.device, capture: Callable[[Work], Work], most: int = 64) -> None:
        self.device, self.capture, self.most = device, capture, most
        self.passes = 0
        """That came out of what is recorded, or is about to be."""
        self.reason: str | None = None
        """Why none is."""
        self._kept: OrderedDict[object, tuple[Parcel, Tensor, Work]] = OrderedDict()

    @classmethod
    def on(cls, device: torch.device, wanted: bool | None) -> Replays | None:
        """By CUDA graphs; None: on a GPU. None where passes are computed as they come.

        Raises:
            UserError: they are to be recorded, and the device is no GPU.
        """
        if device.type == "cuda":
            return None if wanted is False else cls(device, CudaGraphs(device))
        if wanted:
            raise UserError(
                f"CUDA graphs need a GPU, and the model is on {device.type}",
                where="graphs = True",
                fix="leave graphs out: then they are recorded where there is a GPU",
            )
        return None

    @property
    def shapes(self) -> int:
        """How many there are."""
        return len(self._kept)

    def clear(self) -> None:
        """Forget all: the model's weights are elsewhere now."""
        self._kept.clear()

    def run(self, call: Call, shape: Shape, compute: Compute) -> list[Tensor] | None:
        """What `compute` makes of a call, without its padding.

        Args:
            call: of the shape, or smaller.
            shape: rounded.
            compute: of arrays on the device, in whose memory each call of the shape is put.

        Returns:
            None where it is not to be replayed.
        """
        if self.reason is not None or not 0 < shape.events <= MOST_EVENTS:
            return None
        key = shape, call.table.shape[1], *_state(self.device)
        if key not in self._kept:
            self._kept[key] = self._new(call, shape, compute)
        self._kept.move_to_end(key)
        parcel, buffer, work = self._kept[key]
        if len(self._kept) > self.most:
            self._kept.popitem(last=False)
        parcel.put(buffer, call.arrays)
        try:
            found = work()
        except (UserError, RuntimeError) as error:
            # No kernel of attention does without lengths on the host, say: it goes on as without graphs.
            self.reason = str(error)
            self._kept.clear()
            warnings.warn(f"nothing is recorded as a CUDA graph: {self.reason}", stacklevel=2)
            return None
        self.passes += 1
        count = call.shape.candidates or call.shape.users
        return [each[:count] for each in found]

    def _new(self, call: Call, shape: Shape, compute: Compute) -> tuple[Parcel, Tensor, Work]:
        parcel = call.parcel(shape)
        buffer = parcel.buffer(self.device)
        views = parcel.views(buffer)

        def work() -> Sequence[Tensor]:
            kind = self.device.type
            # What autocast keeps of one capture is gone in the next.
            with torch.autocast(
                kind,
                torch.get_autocast_dtype(kind),
                enabled=torch.is_autocast_enabled(kind),
                cache_enabled=False,
            ):
                return compute(views)

        return parcel, buffer, self.capture(work)


def _state(device: torch.device) -> tuple[object, ...]:
    """What else of the process decides which kernels are launched."""
    autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    return autocast, torch.get_float32_matmul_precision()
