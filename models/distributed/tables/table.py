"""The embedding table of items: what every one can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.distributed.processes import Processes
from models.distributed.tables.row_gradient import RowGradient, RowGradients
from models.distributed.tables.rows import RowShards
from models.distributed.tables.targets import InputsAndTargets, TargetPlaces
from models.gpu.row_sums import fits
from models.gpu.row_sums.groups import Groups, grouped
from models.layers.roles import Role


@dataclass(frozen=True, eq=False)
class Lookup:
    """A look-up whose gradients have not been noted, or sent, yet."""

    places: Tensor
    """[n] rows of this process's table; of a divided one [count, n], of what each process asked for, 0 for
    those elsewhere."""
    vectors: Tensor
    """[n, dim] what this process got; a leaf of the graph of its loss."""


class ItemTable(nn.Module, ABC):
    """A row an item id. Row 0, padding, is zero and has no gradient.

    Rows are divided among `processes`, of which there may be one. What is said here to be collective is so
    where there are several: every process then makes the same calls in the same order.
    """

    parameter_roles = {"weight": Role.ITEM_TABLE}
    weight: nn.Parameter
    """[rows of this process, dim]; the first one is padding's."""

    def __init__(self, num_embeddings: int, embedding_dim: int, processes: Processes) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.processes = processes
        self.shards = RowShards(num_embeddings, processes.rank, processes.count)
        self.row_gradients: RowGradients | None = None
        """Gradients by row, in place of `weight.grad`, where an optimizer wants these; None: it does not."""
        self.pending: list[Lookup] = []
        """Look-ups whose gradients are still to be noted, or sent."""
        self._inputs: tuple[Tensor, Tensor] | None = None
        """Ids whose vectors were looked up with those of targets, and these vectors."""

    @property
    def collects(self) -> bool:
        """Whether gradients of look-ups are found in `finish_gradients`, and not within the backward pass."""
        return self.is_divided or self.row_gradients is not None

    @property
    def is_divided(self) -> bool:
        """Whether other processes have rows that this one lacks. Where so, a process without anything to look
        up has to look up nothing when the others look something up."""
        return self.processes.count > 1

    @abstractmethod
    def forward(self, ids: Tensor) -> Tensor:
        """Look up [n] int64 ids, wherever their rows are: [n, dim]. Collective; each with its own n."""

    def look_up_targets(self, ids: Tensor, places: TargetPlaces) -> Tensor:
        """[positions, dim] vectors of targets, looked up with those of the items of a batch. Collective.

        The next look-up of these ids, as this very tensor, gives what was looked up here.

        Args:
            ids: [events] item ids.
            places: of the targets.
        """
        vectors = self(torch.cat([ids, places.others]))
        inputs, targets = InputsAndTargets.apply(vectors, places.place, len(ids))
        self._inputs = ids, inputs
        return targets

    def _known(self, ids: Tensor) -> Tensor | None:
        """The vectors of ids that `look_up_targets` was told; None: these are others."""
        return self._inputs[1] if self._inputs is not None and self._inputs[0] is ids else None

    @abstractmethod
    def own_rows(self) -> Tensor:
        """[rows of this process, dim] a look-up of `own_ids`; nothing is exchanged, now or for gradients."""

    @property
    def own_ids(self) -> Tensor:
        """[rows of this process] int64 ids of its rows, on its device: 0, padding, and others ascending."""
        return self.shards.ids(self.weight.device)

    @abstractmethod
    def finish_gradients(self) -> None:
        """Bring the gradients of look-ups since the last call to the rows' processes, averaged over all.

        To be called after each backward pass. Collective.
        """

    def keep_row_gradients(self) -> None:
        """From now on, note gradients of the rows that are looked up, and none of the whole table."""
        self.row_gradients = RowGradients()

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        self.weight.grad, self._inputs = None, None
        self.pending.clear()
        if self.row_gradients is not None:
            self.row_gradients.clear()

    @property
    def row_gradient(self) -> RowGradient:
        """The gradient of all that was looked up in this step, once `finish_gradients` was called."""
        assert self.row_gradients is not None
        return self.row_gradients.summed(self.weight)

    def _found(self, places: Tensor, vectors: Tensor) -> Tensor:
        """Vectors that were looked up without a graph, as a leaf of one whose gradient is pending."""
        if torch.is_grad_enabled():
            self.pending.append(Lookup(places, vectors.requires_grad_()))
        return vectors

    @abstractmethod
    def gathered(self, own: Tensor) -> Tensor:
        """Put the whole of something that has a row a row of the table together in host memory. Collective.

        Args:
            own: [rows of this process, ...]: the weight, or what an optimizer keeps of it.

        Returns:
            [num_embeddings, ...] on the first process, and nothing of use on others.
        """

    @abstractmethod
    def own_part(self, whole: Tensor) -> Tensor:
        """[rows of this process, ...] of a whole [num_embeddings, ...]; the reverse of `gathered`."""


def of_all(
    processes: Processes, rows: Tensor, gradients: Sequence[tuple[Tensor, int]], like: Tensor
) -> tuple[Tensor, Groups | None]:
    """[count * n, dim] gradients of look-ups of all processes, divided by how many these are; and look-ups by
    row, where kernels sum them.

    Args:
        processes: of which each calls this.
        rows: [count * n] of the table, of the look-ups of all.
        gradients: of this process, end to end: [m, dim], and how many rows it is to have, zeros after the m.
        like: the table.
    """

    def make(own: Tensor) -> None:
        begin = 0
        for gradient, count in gradients:
            filled = own[begin : begin + len(gradient)]
            torch.div(gradient, processes.count, out=filled)
            begin += count
            own[begin - count + len(gradient) : begin] = 0.0

    shape = sum(count for _, count in gradients), like.shape[1]
    received = processes.all_gather_made(like, shape, make).flatten(0, 1)
    return received, grouped(rows, len(like)) if len(rows) and fits(like) else None


MakeItemTable = Callable[[int, int], ItemTable]
"""Makes an item table of a number of item ids and a width."""


def item_tables(module: nn.Module) -> list[ItemTable]:
    """The item tables of a module, each once."""
    return [part for part in module.modules() if isinstance(part, ItemTable)]


def count_parameters(module: nn.Module) -> int:
    """Parameters of a module, with rows of item tables that other processes hold."""
    own = sum(parameter.numel() for parameter in module.parameters())
    elsewhere = sum(
        (table.num_embeddings - len(table.weight)) * table.embedding_dim for table in item_tables(module)
    )
    return own + elsewhere
