"""What processes tell each other of a table: tensors on their devices."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Exchange(Protocol):
    """Every process makes the same calls in the same order, with tensors of the same shape."""

    rank: int
    count: int

    def longest(self, length: int) -> int:
        """The largest of the lengths that the processes name; the device is not waited for."""

    def collect(self, value: T) -> list[T]:
        """[count] values of any kind of all processes, by rank; the device is not waited for."""

    def gather(self, own: Tensor) -> Tensor:
        """[count, *shape] the tensors of all processes, by rank, of `own` of any shape."""

    def sum_to_each(self, parts: Tensor) -> Tensor:
        """[*shape] the sum over processes of what they have for this one; `parts` is [count, *shape]."""

    def total(self, own: Tensor) -> Tensor:
        """The sum over processes, of the same shape."""

    def largest(self, own: Tensor) -> Tensor:
        """The largest over processes, element by element, of the same shape."""
