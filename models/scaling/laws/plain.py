"""A power law without a floor: what other laws are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from behavior.errors import UserError
from models.scaling.laws.law import Array
from models.scaling.laws.points import Columns, broadcast


@dataclass(frozen=True)
class PlainLaw:
    """`y = c x_1^k_1 x_2^k_2 ...`: a power law without floor or ceiling.

    Attributes:
        constant: c.
        exponents: of each column.
    """

    constant: float
    exponents: Mapping[str, float]

    def predict(self, table: Columns) -> Array:
        """[rows] what the law says."""
        columns = broadcast(table, list(self.exponents))
        found = sum(exponent * np.log(columns[name]) for name, exponent in self.exponents.items())
        return np.asarray(self.constant * np.exp(found))

    def parameters(self) -> dict[str, float]:
        """`constant`, and `exponent of X`."""
        return {"constant": self.constant} | {
            f"exponent of {name}": exponent for name, exponent in self.exponents.items()
        }

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {"kind": "plain power law", "equation": "c prod x^k", **asdict(self)}


@dataclass(frozen=True)
class PlainForm:
    """A power law without floor, by least squares of logarithms: what the others are compared with.

    Attributes:
        columns: above 0.
        of: what is explained, above 0.
        lower_is_better: of what is explained.
    """

    columns: tuple[str, ...] = ("parameters_backbone",)
    of: str = "ndcg@10"
    lower_is_better: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """All columns that are read."""
        return self.columns

    @property
    def free(self) -> int:
        """The constant, and an exponent a column."""
        return 1 + len(self.columns)

    def fit(
        self, table: Mapping[str, Array], y: Array, weight: Array, start: PlainLaw | None = None
    ) -> PlainLaw:
        """See `Form.fit`; the optimum is one, whatever the start."""
        if not all((np.asarray(values) > 0).all() for values in (*(table[name] for name in self.columns), y)):
            raise UserError(f"a power law of '{self.of}' needs values above 0")
        columns = np.stack([np.ones(len(y)), *(np.log(table[name]) for name in self.columns)], axis=1)
        root = np.sqrt(weight)
        found = np.linalg.lstsq(columns * root[:, None], np.log(y) * root, rcond=None)[0]
        exponents = dict(zip(self.columns, map(float, found[1:]), strict=True))
        return PlainLaw(float(np.exp(found[0])), exponents)

    def leverage(self, law: PlainLaw, table: Mapping[str, Array]) -> None:
        """None: runs are weighted."""

    def residual(self, y: Array, predicted: Array) -> Array:
        """`ln(measured / predicted)`."""
        return np.log(y / predicted)

    def disturbed(self, predicted: Array, residual: Array) -> Array:
        """`predicted exp(residual)`."""
        return np.asarray(predicted * np.exp(residual))

    def notes(self, law: PlainLaw) -> list[str]:
        """There is nothing to say."""
        return []
