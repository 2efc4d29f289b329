"""The embedding table of items: what every one can do, and the one that is whole in every process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.distributed.processes import SINGLE, Processes
from models.distributed.tables.row_gradient import RowGradient, RowGradients
from models.distributed.tables.rows import RowShards
from models.layers.initialization import INIT_STD, init_truncated
from models.layers.roles import Role

_embedding_backward: Any = torch.ops.aten.embedding_dense_backward


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
        self.weight.grad = None
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


def _whole_gradient(found: list[tuple[Tensor, Tensor]], weight: Tensor) -> Tensor:
    """The gradient of a table of the gradients of look-ups, rows and gradients of each; padding has none."""
    if not found:
        return torch.zeros_like(weight)
    rows = torch.cat([rows for rows, _ in found])
    gradients = torch.cat([gradients for _, gradients in found])
    # Not `index_add_`, whose result depends on the order of threads: copies are alike to the bit.
    gradient: Tensor = _embedding_backward(gradients, rows, len(weight), 0, False)
    return gradient


MakeItemTable = Callable[[int, int], ItemTable]
"""Makes an item table of a number of item ids and a width."""


class WholeTable(ItemTable):
    """An item table that is whole in every process: `nn.Embedding(num_embeddings, dim, padding_idx=0)`.

    Where several processes train together, each has a copy. Copies are kept alike by the gradients of all
    look-ups, in the order of processes: those of look-ups themselves are sent, or, where these would be more,
    those of the whole table.

    Args:
        num_embeddings: item ids, padding included.
        embedding_dim: width.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim, SINGLE)
        weight = fresh_rows(num_embeddings, embedding_dim)
        weight[0] = 0.0
        self.weight = nn.Parameter(weight)
        self.copies: Processes = SINGLE

    def keep_alike(self, processes: Processes) -> None:
        """From now on, average gradients over processes that have a copy of this table each. Collective."""
        self.copies = processes
        processes.broadcast(self.weight)

    @property
    def collects(self) -> bool:
        return super().collects or self.copies.count > 1

    def forward(self, ids: Tensor) -> Tensor:
        if not self.collects:
            return F.embedding(ids, self.weight, padding_idx=0)
        with torch.no_grad():
            vectors = F.embedding(ids, self.weight)
        return self._found(ids, vectors)

    def own_rows(self) -> Tensor:
        # Looked up rather than the table itself, so that padding gets no gradient.
        return self(self.own_ids)

    @torch.no_grad()
    def finish_gradients(self) -> None:
        lookups, self.pending = self.pending, []
        found = [(one.places, one.vectors.grad) for one in lookups if one.vectors.grad is not None]
        if self.copies.count > 1:
            found = self._of_all(found)
        if self.row_gradients is not None:
            for rows, gradients in found:
                self.row_gradients.add(rows, gradients)
        elif found:
            self._add_whole(_whole_gradient(found, self.weight))

    def _of_all(self, found: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Rows and gradients of the look-ups of all processes, divided by how many these are; none where they
        have been added to the table's gradient instead."""
        count, most = self.copies.count, self.copies.max(sum(len(rows) for rows, _ in found))
        if not most:
            return []
        if self.row_gradients is None and count * most >= 2 * self.num_embeddings:
            gradient = _whole_gradient(found, self.weight)
            self.copies.average([gradient])
            self._add_whole(gradient)
            return []
        rows = torch.cat([self.weight.new_zeros(0, dtype=torch.int64), *(rows for rows, _ in found)])
        gradients = torch.cat([self.weight.new_zeros(0, self.embedding_dim), *(one for _, one in found)])
        missing = most - len(rows)
        rows = self.copies.all_gather(F.pad(rows, (0, missing)))  # [count, most]
        gradients = self.copies.all_gather(F.pad(gradients, (0, 0, 0, missing)) / count)  # [count, most, dim]
        return [(rows.flatten(), gradients.flatten(0, 1))]

    def _add_whole(self, gradient: Tensor) -> None:
        if self.weight.grad is None:
            self.weight.grad = gradient
        else:
            self.weight.grad += gradient

    def gathered(self, own: Tensor) -> Tensor:
        return own

    def own_part(self, whole: Tensor) -> Tensor:
        return whole


def fresh_rows(count: int, dim: int) -> Tensor:
    """[count, dim] initial rows, normal(0, 0.02) truncated at two standard deviations."""
    # The constructor of `nn.Embedding` draws numbers as well, after which seeds have always given these.
    rows = nn.Embedding(count, dim).weight.detach()
    init_truncated(rows, INIT_STD)
    return rows


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
