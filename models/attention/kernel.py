"""Ways to compute the same: each says in words what it cannot do, and the first that fits is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

InputsT = TypeVar("InputsT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Kernel(Generic[InputsT, ResultT]):
    """One way."""

    name: str
    unavailable: Callable[[], list[str]]
    """Why it cannot run on this machine at all."""
    reasons_against: Callable[[InputsT], list[str]]
    """Why it does not fit an input, on a machine where it can run."""
    run: Callable[[InputsT], ResultT]

    def objections(self, inputs: InputsT) -> list[str]:
        return self.unavailable() or self.reasons_against(inputs)


def first_that_fits(
    kernels: Iterable[Kernel[InputsT, ResultT]], inputs: InputsT
) -> tuple[Kernel[InputsT, ResultT] | None, str]:
    """The first kernel without objections; else none, and in words why each of them does not fit."""
    reasons = []
    for kernel in kernels:
        objections = kernel.objections(inputs)
        if not objections:
            return kernel, ""
        reasons.append(f"{kernel.name}: {', '.join(objections)}")
    return None, "; ".join(reasons)
