"""Points: a table of what runs had seen, spent and reached, by named columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.config import did_you_mean
from behavior.errors import UserError

Columns = Mapping[str, npt.ArrayLike]
"""Columns of equal length by name; a single number stands for a column of it."""
RUN = "run"


@dataclass(frozen=True)
class Points:
    """A table of points, one measured state of a run each.

    Attributes:
        columns: [points] each; numbers are float64, NaN where unknown, all else is text. `run` tells the
            points of one run from others: what is drawn or left out is whole runs.
    """

    columns: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Points:
        """Points as records of plain values, such as lines of a CSV file.

        Columns that some rows lack are unknown there. Without a column `run` every point is a run of its own.
        """
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = {name: _column([row.get(name) for row in rows]) for name in names}
        if RUN in columns:
            columns[RUN] = np.array([str(row.get(RUN, number)) for number, row in enumerate(rows)])
        return cls.of(columns)

    @classmethod
    def of(cls, columns: Columns) -> Points:
        """Points as columns.

        Raises:
            ValueError: they are not of one length.
        """
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        sizes = {len(values) for values in arrays.values()}
        if len(sizes) > 1:
            raise ValueError(f"columns of different lengths: {sorted(sizes)}")
        numbers = {
            name: values.astype(np.float64) if values.dtype.kind in "biuf" and name != RUN else values
            for name, values in arrays.items()
        }
        size = sizes.pop() if sizes else 0
        return cls({RUN: np.arange(size).astype(str)} | numbers)

    @classmethod
    def from_csv(cls, path: Path) -> Points:
        """Points of a CSV file with a header.

        Raises:
            UserError: it cannot be read.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            fix = "name a CSV file with a header"
            raise UserError(f"the points cannot be read: {error}", where=str(path), fix=fix) from None
        if any(None in row for row in rows):
            raise UserError(
                "a line of the points has more fields than the header",
                where=str(path),
                fix="correct the file",
            )
        return cls.from_rows(rows)

    def __len__(self) -> int:
        return len(self.columns[RUN])

    @property
    def runs(self) -> npt.NDArray[np.int64]:
        """[points] int64 the number of each point's run, from 0."""
        return np.unique(self.columns[RUN], return_inverse=True)[1].astype(np.int64)

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """[points] float64 a column of numbers, NaN where unknown.

        Raises:
            UserError: there is no such column, or it is of text.
        """
        if name not in self.columns:
            raise UserError(
                f"the points have no column '{name}'", fix=did_you_mean(name, sorted(self.columns))
            )
        values = self.columns[name]
        if values.dtype.kind != "f":
            raise UserError(f"the column '{name}' of the points is not one of numbers")
        return values

    def where(self, kept: npt.NDArray[np.bool_]) -> Points:
        """The points that a mask keeps."""
        return Points({name: values[kept] for name, values in self.columns.items()})

    def known(self, names: Sequence[str]) -> Points:
        """The points that have a finite number in every named column.

        Raises:
            UserError: there is no such column.
        """
        kept = np.ones(len(self), bool)
        for name in names:
            kept &= np.isfinite(self.column(name))
        return self.where(kept)

    def with_column(self, name: str, values: npt.ArrayLike) -> Points:
        """The points with one column more, or another in its place."""
        return Points.of({**self.columns, name: np.broadcast_to(np.asarray(values), (len(self),))})

    def with_effective_tokens(self, entropy: str) -> Points:
        """With `effective_tokens`, tokens over the entropy of the data (`D'` of arXiv 2412.00430).

        Args:
            entropy: a column such as `lempel_ziv_entropy`, of the data of each run (`behavior.quality`).
                Where it is not above 0 the effective tokens are unknown: exact-match approximate entropy is
                negative where nothing repeats.
        """
        values = self.column(entropy)
        known = values > 0
        tokens = np.where(known, self.column("tokens") / np.where(known, values, 1.0), np.nan)
        return self.with_column("effective_tokens", tokens)


def _column(values: list[Any]) -> npt.NDArray[Any]:
    """Numbers where all values that are there are, text otherwise."""
    found = []
    for value in values:
        if value is None or value == "":
            found.append(math.nan)
        elif isinstance(value, str) and value in ("True", "False"):
            found.append(float(value == "True"))
        else:
            try:
                found.append(float(value))
            except (TypeError, ValueError):
                return np.array(["" if other is None else str(other) for other in values])
    return np.array(found, np.float64)


def broadcast(table: Columns, names: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """The named columns of a table as float64 arrays of one length.

    Raises:
        UserError: one is missing.
    """
    for name in names:
        if name not in table:
            raise UserError(f"the law needs '{name}'", fix=f"it takes: {', '.join(names)}")
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(table[name], np.float64)) for name in names))
    return dict(zip(names, arrays, strict=True))
