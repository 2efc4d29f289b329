"""Integers, one a sequence, from whatever holds them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.errors import UserError

LARGEST = 2**31 - 1
"""Of the budgets, weights and numbers that packing counts with."""


def lengths_of(values: Any) -> np.ndarray:
    """The lengths of sequences.

    Args:
        values: integers as a numpy or Arrow array, or a list of them; or an Arrow array of lists, whose
            lengths are taken. An Arrow array may be chunked.

    Returns:
        The lengths, without a copy where the input is one array of numbers. [sequences] any type of integer

    Raises:
        UserError: they are not integers, have more than one dimension, or one is null.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _from_arrow(values)
    lengths = np.asarray(values)
    if lengths.ndim != 1:
        raise UserError(f"lengths have {lengths.ndim} dimensions", fix="give one integer per sequence")
    if lengths.dtype.kind not in "iu":
        if len(lengths):
            raise UserError(
                f"lengths are integers, not {lengths.dtype}", fix="convert them to integers first"
            )
        lengths = lengths.astype(np.int64)
    return lengths


def _from_arrow(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    kind = values.type
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise UserError(f"sequence {row} is null", fix="fill or drop nulls first")
    if not pa.types.is_integer(kind):
        if not is_list(kind):
            raise UserError(
                f"lengths are integers or lists, not {kind}",
                fix="convert them to integers first",
            )
        values = pc.list_value_length(values)
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    return values.to_numpy()


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's lists."""
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def checked(values: Any, most: int, unit: str = "tokens", note: str = "") -> np.ndarray:
    """Numbers from 0 to `most`, which is below 2^31. [sequences] int32, contiguous

    Raises:
        UserError: one is above or negative, or they are not integers (`lengths_of`).
    """
    numbers = lengths_of(values)
    if len(numbers) > LARGEST:
        raise UserError(f"{len(numbers):,} sequences are too many for one call", fix="pack them in parts")
    if len(numbers) and (numbers.max() > most or numbers.min() < 0):
        worst = int(np.argmax((numbers > most) | (numbers < 0)))
        raise UserError(
            f"sequence {worst} has {numbers[worst]:,} {unit}, a pack holds 0 to {most:,}{note}",
            fix="cut it into windows (too_long='window' in pack_sequences), or use a larger budget",
        )
    return np.ascontiguousarray(numbers, np.int32)


def whole_number(value: Any, name: str, most: int = LARGEST) -> int:
    """An integer from 1 to `most`.

    Raises:
        UserError: it is not.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise UserError(f"{name} is an integer, not {value!r}") from None
    if not 1 <= number <= most:
        raise UserError(f"{name} is a number from 1 to {most:,}, not {number:,}")
    return number
