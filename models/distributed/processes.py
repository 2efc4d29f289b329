"""The protocol of processes that work together; every collective operation goes through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from behavior.errors import UserError

T = TypeVar("T")

ReduceOp = Literal["sum", "max"]


class Processes(ABC):
    """This process (a rank) among all that train or evaluate one model together.

    Collective operations have the names of `torch.distributed`. Every process makes the same calls in the
    same order, with tensors of the same shape and dtype; results have no gradients. Tensors in host memory
    travel from host to host, and no device is waited for; those of a device from device to device.
    """

    rank: int
    """Of this process, from 0."""
    count: int
    """Of all processes: the world size."""

    @property
    def local_rank(self) -> int:
        """Rank among the processes of this machine."""
        return self.rank

    @property
    def local_count(self) -> int:
        """Processes of this machine."""
        return self.count

    @abstractmethod
    def all_gather_object(self, value: T) -> list[T]:
        """[count] the picklable values of all processes, by rank; a host must have room for all of them."""

    @abstractmethod
    def broadcast_object(self, value: T) -> T:
        """The picklable value of rank 0; what the others pass does not matter."""

    @abstractmethod
    def all_gather(self, tensor: Tensor) -> Tensor:
        """[count, *shape] the tensors of all processes, by rank."""

    def all_gather_made(self, like: Tensor, shape: Sequence[int], make: Callable[[Tensor], object]) -> Tensor:
        """`all_gather` of tensors that are made where they are sent from, so that none is copied.

        Args:
            like: has their dtype and device.
            shape: of each.
            make: writes this process's into a tensor of that shape, whose values are anything.
        """
        own = like.new_empty(shape)
        make(own)
        return self.all_gather(own)

    @abstractmethod
    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        """[*shape] the sum over processes of the parts that they have for this one.

        Args:
            tensor: [count, *shape], a part for each rank.
        """

    @abstractmethod
    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        """[*shape] the sum or the maximum over processes, by element, the same bits on all of them."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over processes, by element, the same bits on all of them."""
        for tensor in tensors:
            tensor.detach().copy_(self.all_reduce(tensor) / self.count)

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        tensor.detach().copy_(self.all_gather(tensor)[0])

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the process that writes and logs."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """[n] sums over processes of numbers on the host, in float64."""
        summed: list[float] = self.all_reduce(torch.tensor(values, dtype=torch.float64)).tolist()
        return summed

    def max(self, value: int) -> int:
        """The maximum over processes of a number on the host."""
        return int(self.all_reduce(torch.tensor(value), "max"))

    def on_first(self, work: Callable[[], T]) -> T:
        """Call a function on rank 0 alone, and return what it returns on every process.

        Raises:
            UserError: on every process, where rank 0 raised it.
        """
        done: tuple[T | None, UserError | None] = (None, None)
        if self.is_first:
            try:
                done = (work(), None)
            except UserError as error:
                if self.count == 1:
                    raise
                done = (None, error)
        result, failure = self.broadcast_object(done)
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]


class SingleProcess(Processes):
    """A process without others: every collective operation returns what this one has."""

    rank = 0
    count = 1

    def all_gather_object(self, value: T) -> list[T]:
        return [value]

    def broadcast_object(self, value: T) -> T:
        return value

    def all_gather(self, tensor: Tensor) -> Tensor:
        return tensor.detach()[None]

    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        return tensor.detach()[0]

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        return tensor.detach()

    def average(self, tensors: Sequence[Tensor]) -> None:
        pass

    def broadcast(self, tensor: Tensor) -> None:
        pass


SINGLE = SingleProcess()


def share_of(size: int, rank: int, count: int) -> slice:
    """The contiguous share of `size` elements that belongs to a rank; shares differ by one element at most.

    >>> [share_of(7, rank, 3) for rank in range(3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    return slice(size * rank // count, size * (rank + 1) // count)
