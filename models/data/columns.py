"""Columns of a batch, each declared once.

From the declared list follows which columns of the sequence files are read, what a batch holds, and how it
lies in memory. Tasks, layouts and features ask for the columns they need, and `Columns.merged` puts together
what several ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch

from behavior.errors import UserError
from models.data.origins import Origin

_DTYPES = {name: getattr(torch, name) for name in ("int8", "int16", "int32", "int64", "float32", "float64")}
_RESERVED = ("offsets", "sequence")


@dataclass(frozen=True)
class Column:
    """One value per event.

    Attributes:
        name: by which the batch has it, `batch[name]`.
        dtype: int8, int16, int32, int64, float32 or float64. What indexes an embedding table must be int32 or
            int64, as torch wants it.
        fill: the value of padding, that is, of rows that belong to no sequence.
        origin: how values are made of events; None for columns that only come with batches made by hand.

    Raises:
        ValueError: a dtype that is none of these, or a `fill` that it does not hold.
        UserError: a name that batches use for something else.
    """

    name: str
    dtype: str = "int64"
    fill: float = 0
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ValueError(f"column '{self.name}': dtype {self.dtype} is none of {', '.join(_DTYPES)}")
        if self.name in _RESERVED:
            raise UserError(
                f"a batch has no room for a column '{self.name}': the name has a meaning of its own there",
                fix="give the column another name",
            )
        if not self.torch_dtype.is_floating_point:
            limits = torch.iinfo(self.torch_dtype)
            if self.fill % 1 != 0 or not limits.min <= self.fill <= limits.max:
                raise ValueError(f"column '{self.name}': {self.dtype} does not hold the fill {self.fill}")

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the sequence files that it is made of."""
        return () if self.origin is None else self.origin.reads

    @property
    def torch_dtype(self) -> torch.dtype:
        return _DTYPES[self.dtype]


@dataclass(frozen=True)
class Columns:
    """An ordered list of columns with names of their own; immutable.

    >>> prices = Columns((Column("price", "float32"),))
    >>> [column.name for column in Columns.merged(prices, [Column("device", "int32"), *prices])]
    ['price', 'device']
    """

    listed: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        if len({column.name for column in self.listed}) < len(self.listed):
            raise ValueError("a column is listed twice; Columns.merged puts lists together")

    @classmethod
    def merged(cls, *asked: Iterable[Column]) -> Columns:
        """What several ask for, in the order in which it is first asked for; equal declarations are one.

        Raises:
            UserError: two declarations of one name differ.
        """
        merged: dict[str, Column] = {}
        for column in (column for columns in asked for column in columns):
            known = merged.setdefault(column.name, column)
            if known != column:
                raise UserError(
                    f"two different columns are called '{column.name}': {known} and {column}",
                    fix="give one of them another name",
                )
        return cls(tuple(merged.values()))

    def __iter__(self) -> Iterator[Column]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, name: str) -> Column:
        """The column of this name.

        Raises:
            KeyError: there is none.
        """
        for column in self.listed:
            if column.name == name:
                return column
        raise KeyError(f"there is no column '{name}', only {', '.join(self.names)}")

    def select(self, *names: str) -> Columns:
        """Some of the columns, in the order of `names`."""
        return Columns(tuple(self[name] for name in names))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @cached_property
    def runs(self) -> tuple[tuple[torch.dtype, tuple[str, ...]], ...]:
        """Neighbors of equal dtype: the dtype, and their names."""
        groups = groupby(self.listed, key=lambda column: column.torch_dtype)
        return tuple((dtype, tuple(column.name for column in group)) for dtype, group in groups)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.listed)

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the sequence files that they are made of, each once."""
        return tuple(dict.fromkeys(stored for column in self.listed for stored in column.reads))
