"""Power laws with a floor or a ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np

from models.scaling.laws.law import Array
from models.scaling.laws.points import Columns, broadcast
from models.scaling.laws.repeated import effective_of_repeated


@dataclass(frozen=True)
class Term:
    """`coefficient * column^(-exponent)`, times the powers of other columns.

    Attributes:
        column, exponent: of the first factor.
        coefficient: of the product.
        others: further columns and their exponents.
    """

    column: str
    coefficient: float
    exponent: float
    others: tuple[tuple[str, float], ...] = ()

    @property
    def exponents(self) -> dict[str, float]:
        """Of each column."""
        return {self.column: self.exponent, **dict(self.others)}

    def of(self, columns: Mapping[str, Array]) -> Array:
        """[rows] the term."""
        product_ = self.coefficient * columns[self.column] ** -self.exponent
        for name, exponent in self.others:
            product_ = product_ * columns[name] ** -exponent
        return np.asarray(product_)


@dataclass(frozen=True)
class PowerLaw:
    """`L = E + sum_k A_k x_k^(-a_k)`, or `Q = C - sum_k A_k x_k^(-a_k)`.

    Attributes:
        limit: E, the floor that no size goes below, or C, the ceiling.
        terms: what is missing to it.
        rising: whether the limit is a ceiling.
        repeat_decay: R of `effective_of_repeated`, where tokens that were seen before count for less.
    """

    limit: float
    terms: tuple[Term, ...]
    rising: bool = False
    repeat_decay: float | None = None

    def predict(self, table: Columns) -> Array:
        """[rows] what the law says. Columns: of its terms, and `unique_events` with a `repeat_decay`."""
        names = [name for term in self.terms for name in term.exponents]
        extra = [] if self.repeat_decay is None else ["unique_events"]
        columns = broadcast(table, [*names, *extra])
        if self.repeat_decay is not None:
            columns["tokens"] = effective_of_repeated(
                columns["tokens"], columns["unique_events"], self.repeat_decay
            )
        missing = sum(term.of(columns) for term in self.terms)
        return np.asarray(self.limit - missing if self.rising else self.limit + missing)

    def parameters(self) -> dict[str, float]:
        """`limit`, `coefficient of X` and `exponent of X`, and `repeat_decay` where there is one."""
        found = {"limit": self.limit}
        for term in self.terms:
            found[f"coefficient of {term.column}"] = term.coefficient
            found |= {f"exponent of {name}": exponent for name, exponent in term.exponents.items()}
        return found if self.repeat_decay is None else found | {"repeat_decay": self.repeat_decay}

    def record(self) -> dict[str, Any]:
        """As plain values."""
        sign = "-" if self.rising else "+"
        number, terms = count(1), []
        for k, term in enumerate(self.terms, start=1):
            powers = [f"{name}^(-a{next(number)})" for name in term.exponents]
            terms.append(" ".join([f"A{k}", *powers]))
        equation = f" {sign} ".join(["C" if self.rising else "E", *terms])
        return {"kind": "power law", "equation": equation, **asdict(self)}
