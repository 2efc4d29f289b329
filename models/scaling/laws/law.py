"""What every law has, and every form of a law that is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.scaling.laws.points import Columns

Array = npt.NDArray[np.float64]


class Law(Protocol):
    """A fitted formula."""

    def predict(self, table: Columns) -> Array:
        """What it says of each row of a table. [rows]"""

    def parameters(self) -> dict[str, float]:
        """Its parameters by name."""

    def record(self) -> dict[str, Any]:
        """Kind, equation and parameters as plain values."""


class Form(Protocol):
    """A formula to fit.

    Attributes:
        of: the column that is explained.
        columns: those that explain it; within the cloud of their values a law may be asked.
        needs: all that are read.
        lower_is_better: of what is explained.
        free: how many parameters are fitted.
    """

    @property
    def of(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def lower_is_better(self) -> bool: ...

    @property
    def free(self) -> int: ...

    def fit(self, table: Mapping[str, Array], y: Array, weight: Array, start: Any = None) -> Law:
        """The best law.

        Args:
            table: the columns. [points] each
            y: what is explained. [points]
            weight: of each point in the objective. [points]
            start: a law of this form near which to look, instead of everywhere.
        """

    def leverage(self, law: Any, table: Mapping[str, Array]) -> Array | None:
        """[points] the diagonal of the hat matrix of a fit by least squares; None for a robust fit."""

    def residual(self, y: Array, predicted: Array) -> Array:
        """What was measured less what a law says, in the units in which errors are alike everywhere."""

    def notes(self, law: Any) -> list[str]:
        """What of a fit is not to be trusted."""

    def disturbed(self, predicted: Array, residual: Array) -> Array:
        """The inverse: what would be measured, given a residual."""
