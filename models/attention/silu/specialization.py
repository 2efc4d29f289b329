"""What kernels are specialized for, and each kernel's arguments as far as that decides them."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import torch

from models.attention.silu import shared_sums
from models.attention.silu.forward import forward_kernel
from models.attention.silu.kept_scores import WIDER_THAN, kept_query_gradient_kernel
from models.attention.silu.kernel_arguments import Constants
from models.attention.silu.key_gradients import key_gradient_kernel
from models.attention.silu.masking import CAUSAL
from models.attention.silu.query_gradients import query_gradient_kernel
from models.attention.silu.table_gradient import finalize_kernel
from models.attention.silu.tiles import BLOCK
from models.attention.silu.time_gradient import TIME_SUMS
from models.attention.silu.tuning import TileShapes, tile_shapes
from models.attention.silu.written_bias import write_bias_kernel
from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import Launcher
from models.gpu.tile_shape import TileShape

_FINALIZED = 256
"""Positions a program."""
_ALIGNED = 16
_WRITING = TileShape(BLOCK, BLOCK, warps=4, stages=1)
_FEW = 6
"""Boundaries up to which comparing with each costs less than finding each pair's bucket."""
_PACKED_UP_TO = 64
"""Numbers of a head, with more of which there are no registers to keep buckets."""
_MOST_KINDS = 512
"""A model has a few, with and without gradients."""

# What kernels are given where there is no such thing.
_WITHOUT_BIAS: dict[str, object] = {
    "rules": None, "num_sequences": 0,
    "position": None, "time": None, "amount": None, "rate": None,
    "query_time": None, "timestamp": None, "seconds": None, "bounds": None, "boundaries": None,
    "wide_boundaries": None, "bucket_table": None, "keys_beyond": None, "queries_before": None, "tokens": 0,
    "num_blocks": 0, "parts": 1, "part_size": 0, "kept": None, "kept_stride": 0,
    "written": None, "written_stride": 0, "written_heads": 0,
}  # fmt: skip

_WITHOUT_SUMS: dict[str, object] = {
    "position_sums": None, "time_sums": None, "max_norms": None, "limit": 0.0
}  # fmt: skip
"""The same where tables want no gradients."""

Strides = tuple[tuple[int, ...], ...]
"""Of q, k and v; and of the result's gradient, where there is one."""


class Specialization(NamedTuple):
    """What calls have in common that the same compiled kernels serve; hashable."""

    devices: tuple[int, ...]
    """Numbers of the devices of all inputs, which ought to be one; -1: the CPU."""
    dtype: torch.dtype
    """Of q, k, v, the result, and the gradients of these."""
    heads: int
    qk_dim: int
    v_dim: int
    mask: int
    """How much of a mask the kernels have to do with: CAUSAL, WINDOW or RICH."""
    of_last: bool
    """Whether queries are only the last tokens of sequences: too few to look for simple tiles for them."""
    window: int
    front: int
    context: int
    position: torch.Size | None
    """Shapes of the contiguous tables, and of either part of a decay."""
    time: torch.Size | None
    decay: torch.Size | None
    times: tuple[torch.dtype, torch.dtype] | None
    """Types of query times and timestamps."""
    power: bool
    identity: bool
    short: bool
    """Whether no sequence passes 256 tokens."""
    precise: bool
    """Whether products of float32 are float32."""

    @property
    def device(self) -> torch.device:
        """Where all inputs are.

        Raises:
            ValueError: they are on several devices.
        """
        number, *others = set(self.devices)
        if others:
            raise ValueError("q, k, v, sequences, and what belongs to a bias must be on one device")
        return torch.device("cpu") if number < 0 else torch.device("cuda", number)


class KernelSet:
    """The kernels for one kind of calls, with all arguments but tensors and what differs by the batch.

    Args:
        kind: of the calls.
        strides: of q, k and v, and for the kernels of backward of the given gradient too.
        summed: whether backward gives the gradients of the tables too.

    Raises:
        ValueError: the inputs are on several devices.
    """

    def __init__(self, kind: Specialization, strides: Strides, summed: bool = False) -> None:
        self.kind = kind
        self.device = kind.device
        self.shapes = choose_tile_shapes(kind)
        self.sizes = self.shapes.tiles()
        self.precompiled = False
        """Whether all kernels, those of backward too, are compiled already, or could not be."""
        self._strides = strides
        self._summed = summed
        self._split = self.shapes.split and not kind.of_last
        self.counts_boundaries = self._split and kind.time is not None
        """Whether simple tiles need to know how many tokens lie beyond bucket boundaries
        (`boundary_counts`)."""
        self.can_keep = (
            kind.mask == CAUSAL
            and kind.decay is None
            and kind.dtype.itemsize == 2
            and width(kind.qk_dim) > WIDER_THAN
        )
        """Whether gradients of scores may be kept for those of q (`kept_scores`)."""
        self.written_rows = max(_rows(kind.position), _rows(kind.time)) if self.can_keep else 0
        """Rows of a bias that may be written for the kernel for the keys (`written_bias`)."""
        self.writing = _WRITING
        self._keys: dict[tuple[bool, bool], Launcher] = {}

    @cached_property
    def forward(self) -> Launcher:
        shape = self.shapes.forward
        return Launcher(forward_kernel, shape, self.device, self._constants() | {
            "out_stride": self.kind.heads * self.kind.v_dim,
            "C": self._compiled_for(shape.tile, shape.stream, *self._strides[1:3], compared=self._compared),
        })  # fmt: skip

    @cached_property
    def forward_parts(self) -> Launcher:
        """`forward`, where several programs share the keys of a tile; of a rich mask."""
        shape = self.shapes.forward
        return Launcher(forward_kernel, shape, self.device, self._constants() | {
            "out_stride": self.kind.heads * self.kind.v_dim,
            "C": self._compiled_for(
                shape.tile, shape.stream, *self._strides[1:3], parts=True, compared=self._compared
            ),
        })  # fmt: skip

    @cached_property
    def write_bias(self) -> Launcher:
        shape = self.writing
        return Launcher(write_bias_kernel, shape, self.device, self._constants() | {
            "C": self._compiled_for(shape.tile, shape.stream, *self._strides[1:3], compared=_FEW),
        })  # fmt: skip

    def keys(self, kept: bool, written: bool) -> Launcher:
        """For gradients of k and v: whether gradients of scores are kept, and the bias is written."""
        if (kept, written) not in self._keys:
            kind, shape = self.kind, self.shapes.keys
            self._keys[kept, written] = Launcher(
                key_gradient_kernel, shape, self.device, self._backward_constants() | {
                    "dk_stride": kind.heads * kind.qk_dim, "dv_stride": kind.heads * kind.v_dim,
                    "C": self._compiled_for(
                        shape.stream, shape.tile, self._strides[0], self._strides[3], ended=written
                    ),
                }
            )  # fmt: skip
        return self._keys[kept, written]

    @cached_property
    def queries(self) -> Launcher:
        return self._queries(self.shapes.queries, chained=True)

    @cached_property
    def queries_of_kept(self) -> Launcher:
        """`queries`, by gradients of scores that `keys` kept."""
        kind, shape = self.kind, self.shapes.kept
        if self._summed:
            return self._queries(self.shapes.kept_summed, chained=False)
        return Launcher(kept_query_gradient_kernel, shape, self.device, self._backward_constants() | {
            "dq_stride": kind.heads * kind.qk_dim,
            "C": self._compiled_for(shape.tile, shape.stream, *self._strides[1:3]),
        })  # fmt: skip

    def _queries(self, shape: TileShape, chained: bool) -> Launcher:
        """`chained`: whether scores are a product of which another product is made."""
        kind = self.kind
        sums = shared_sums.way(shape, kind.dtype.itemsize, kind.time is not None, chained)
        return Launcher(query_gradient_kernel, shape, self.device, self._backward_constants() | {
            "dq_stride": kind.heads * kind.qk_dim,
            "C": self._compiled_for(shape.tile, shape.stream, *self._strides[1:3], sums=sums),
            "position_row": self.position_sums[1] if _head_stride(kind.position, 2) else 0,
            "time_row": self.time_sums[1] if _head_stride(kind.time, 2) else 0,
        }, own_shared=self._summed and sums != shared_sums.PLAIN)  # fmt: skip

    @cached_property
    def finalize(self) -> Launcher:
        return Launcher(finalize_kernel, None, self.device, {
            "position_sums": None, "time_sums": None, "dposition": None, "dtime": None,
            "position_row": self.position_sums[1], "position_size": _size(self.kind.position),
            "POSITION_ROWS": _rows(self.kind.position),
            "BLOCK": _FINALIZED,
        })  # fmt: skip

    @cached_property
    def finalizing(self) -> int:
        """Programs that settle all positions, then all buckets."""
        position, time = self.kind.position, self.kind.time
        return _rows(position) * -(-_size(position) // _FINALIZED) + _rows(time) * _size(time)

    @cached_property
    def position_sums(self) -> tuple[int, int]:
        """Shape of the fixed-point accumulators of the position table's gradient."""
        size = _size(self.kind.position)
        return _rows(self.kind.position), -(-size // _ALIGNED) * _ALIGNED

    @cached_property
    def time_sums(self) -> tuple[int, int]:
        """The same of the time table."""
        return _rows(self.kind.time), TIME_SUMS

    def _backward_constants(self) -> dict[str, object]:
        """What `key_gradient_kernel` and `query_gradient_kernel` are given alike."""
        dout = self._strides[3]
        sums = {} if self._summed else _WITHOUT_SUMS
        return self._constants() | sums | {"dout_stride": dout[0], "dout_head": dout[1]}

    def _compiled_for(
        self,
        queries: int,
        keys: int,
        first: tuple[int, ...],
        second: tuple[int, ...],
        *,
        parts: bool = False,
        ended: bool = False,
        sums: int = shared_sums.PLAIN,
        compared: int = 0,
    ) -> Constants:
        """Given a tile's queries and keys, and the strides of the two tensors that are streamed."""
        kind = self.kind
        widest = max(width(kind.qk_dim), width(kind.v_dim))
        return Constants(
            QUERIES=queries, KEYS=keys,
            QK_DIM=kind.qk_dim, QK_WIDTH=width(kind.qk_dim), V_DIM=kind.v_dim, V_WIDTH=width(kind.v_dim),
            MASK=kind.mask, POWER=kind.power, IDENTITY=kind.identity,
            FAST=kind.dtype.itemsize == 2 and not INTERPRETED,
            COMPARED=compared, PACKED=widest <= _PACKED_UP_TO, SUMS=sums,
            PRECISION=self._precision, SPLIT=self._split, PARTS=parts,
            APART=kind.dtype.itemsize == 2 and keys == 64 and width(kind.v_dim) > WIDER_THAN,
            ENDED=ended,
            HALVED=self._halved,
            FIRST_STRIDE=first[0], SECOND_STRIDE=second[0],
        )  # fmt: skip

    @property
    def _halved(self) -> bool:
        return self.kind.dtype.itemsize == 2 and width(self.kind.qk_dim) > WIDER_THAN

    @property
    def _compared(self) -> int:
        """Of the kernel for the result: with half a product begun ahead it has no registers for more."""
        return _FEW if self._halved else 0

    @property
    def _precision(self) -> str:
        # Three products of TF32 halves are float32 to its last bits or two, on the matrix units.
        return "tf32x3" if self.kind.precise else "tf32"

    def _constants(self) -> dict[str, object]:
        """What all kernels but `finalize_kernel` are given alike."""
        kind, (q, k, v) = self.kind, self._strides[:3]
        return _WITHOUT_BIAS | {
            "q_stride": q[0], "q_head": q[1],
            "k_stride": k[0], "k_head": k[1],
            "v_stride": v[0], "v_head": v[1],
            "window": kind.window, "front": kind.front, "context": kind.context,
            "position_head": _head_stride(kind.position, 2), "time_head": _head_stride(kind.time, 2),
            "decay_head": _head_stride(kind.decay, 1),
        }  # fmt: skip


kernel_set = lru_cache(maxsize=_MOST_KINDS)(KernelSet)
"""`KernelSet`, made once for the same arguments."""


def _head_stride(table: torch.Size | None, dims: int) -> int:
    """Numbers from a head's row of a table to the next; 0 where all share one."""
    return 0 if table is None or len(table) < dims or table[0] == 1 else table[1:].numel()


def _rows(table: torch.Size | None) -> int:
    """Rows of a table; 0 without one."""
    return 0 if table is None else table[:-1].numel()


def _size(table: torch.Size | None) -> int:
    """Numbers in a row of a table; 0 without one."""
    return 0 if table is None else table[-1]


def choose_tile_shapes(kind: Specialization) -> TileShapes:
    """The tiles for these head dimensions, this type and this length."""
    timed = kind.time is not None
    placed = kind.position is not None
    size = kind.dtype.itemsize
    return tile_shapes(width(kind.qk_dim), width(kind.v_dim), size, timed, placed, kind.short)


def width(dim: int) -> int:
    """A head dimension rounded up to what a kernel can hold: a power of two, 16 at least."""
    return max(16, 1 << (dim - 1).bit_length())
