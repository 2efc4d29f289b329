"""An embedding table of items that is whole in every process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.distributed.processes import SINGLE, Processes
from models.distributed.tables.row_gradient import end_to_end
from models.distributed.tables.table import ItemTable, of_all
from models.gpu.row_sums import sum_rows
from models.gpu.row_sums.groups import Groups
from models.layers.initialization import INIT_STD, init_truncated
from models.layers.look_up import look_up

Found = tuple[Tensor, Tensor]
"""[n] int64 rows, and [n, dim] gradients of look-ups of them."""


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
        self.sums_at_once = False

    def sum_at_once(self) -> None:
        """From now on, find the gradients of all look-ups of a backward pass together, in
        `finish_gradients`, and not a whole table's for each, to be added up."""
        self.sums_at_once = self.weight.requires_grad

    def keep_alike(self, processes: Processes) -> None:
        """From now on, average gradients over processes that have a copy of this table each. Collective."""
        self.copies = processes
        processes.broadcast(self.weight)

    @property
    def collects(self) -> bool:
        return super().collects or self.sums_at_once or self.copies.count > 1

    def forward(self, ids: Tensor) -> Tensor:
        known = self._known(ids)
        if known is not None:
            return known
        if not self.collects:
            return look_up(ids, self.weight, padding=True)
        with torch.no_grad():
            vectors = F.embedding(ids, self.weight)
        return self._found(ids, vectors)

    def own_rows(self) -> Tensor:
        # Looked up rather than the table itself, so that padding gets no gradient.
        return self(self.own_ids)

    @torch.no_grad()
    def finish_gradients(self) -> None:
        lookups, self.pending, self._inputs = self.pending, [], None
        found = [(one.places, one.vectors.grad) for one in lookups if one.vectors.grad is not None]
        groups = None
        if self.copies.count > 1:
            found, groups = self._of_all(found)
        if self.row_gradients is not None:
            for rows, gradients in found:
                self.row_gradients.add(rows, gradients, groups)
        elif found:
            self._add_whole(_whole_gradient(found, self.weight, groups))

    def _of_all(self, found: Sequence[Found]) -> tuple[list[Found], Groups | None]:
        """Rows and gradients of the look-ups of all processes, divided by how many these are, and look-ups by
        row where kernels sum them; none where they have been added to the table's gradient instead."""
        count, most = self.copies.count, self.copies.max(sum(len(rows) for rows, _ in found))
        if not most:
            return [], None
        # A ring sends less for an all-reduce of the table's gradient than for an all-gather of so many.
        if self.row_gradients is None and count * most >= 2 * self.num_embeddings:
            gradient = _whole_gradient(found, self.weight)
            self.copies.average([gradient])
            self._add_whole(gradient)
            return [], None
        rows = torch.cat([self.weight.new_zeros(0, dtype=torch.int64), *(rows for rows, _ in found)])
        missing = most - len(rows)
        rows = self.copies.all_gather(F.pad(rows, (0, missing))).flatten()  # [count * most]
        parts = [(one, len(one)) for _, one in found]
        nothing = self.weight.new_zeros(0, self.embedding_dim)
        gradients, groups = of_all(self.copies, rows, [*parts, (nothing, missing)], self.weight)
        return [(rows, gradients)], groups

    def _add_whole(self, gradient: Tensor) -> None:
        if self.weight.grad is None:
            self.weight.grad = gradient
        else:
            self.weight.grad += gradient

    def gathered(self, own: Tensor) -> Tensor:
        return own

    def own_part(self, whole: Tensor) -> Tensor:
        return whole


def _whole_gradient(found: Sequence[Found], weight: Tensor, groups: Groups | None = None) -> Tensor:
    """The gradient of a table of the gradients of look-ups; padding has none."""
    if not found:
        return torch.zeros_like(weight)
    rows, gradients = end_to_end(found)
    # In a fixed order: copies are alike to the bit.
    return sum_rows(gradients, rows, len(weight), padding=True, groups=groups)


def fresh_rows(count: int, dim: int) -> Tensor:
    """[count, dim] initial rows, normal(0, 0.02) truncated at two standard deviations."""
    # The constructor of `nn.Embedding` draws numbers as well, after which seeds have always given these.
    rows = nn.Embedding(count, dim).weight.detach()
    init_truncated(rows, INIT_STD)
    return rows
