"""An item table of which each process holds some rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.distributed.processes import Processes
from models.distributed.tables.table import ItemTable, MakeItemTable, of_all
from models.distributed.tables.whole import WholeTable, fresh_rows
from models.gpu.row_sums import sum_rows

# Values of the table that are drawn at a time: fewer than the table has, and it is another one.
_DRAWN = 1 << 26
# Values that are gathered at a time, on the device.
_GATHERED = 1 << 24


def tables_divided_among(processes: Processes) -> MakeItemTable:
    """Makes item tables whose rows are divided among processes; whole ones, where there is one process."""
    if processes.count == 1:
        return WholeTable
    return lambda num_embeddings, embedding_dim: ShardedTable(num_embeddings, embedding_dim, processes)


class ShardedTable(ItemTable):
    """A share of the rows in each process.

    A look-up gathers the ids of all processes; each looks up those whose rows it has, zeros for others, and
    the sum over processes of what was found is scattered to who asked. Gradients go back the other way, in
    `finish_gradients`, not within the backward pass: processes work their graphs off in an order of their
    own, in between with what DistributedDataParallel sends, and would wait for each other for ever. The order
    of look-ups is that of the model, the same in all processes.

    Args:
        num_embeddings: item ids, padding included.
        embedding_dim: width.
        processes: among which rows are divided.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, processes: Processes) -> None:
        super().__init__(num_embeddings, embedding_dim, processes)
        self.weight = nn.Parameter(self._fresh())

    def forward(self, ids: Tensor) -> Tensor:
        known = self._known(ids)
        if known is not None:
            return known
        asked = F.pad(ids, (0, self.processes.max(len(ids)) - len(ids)))
        places = self.shards.local(self.processes.all_gather(asked))  # [count, n]
        with torch.no_grad():
            found = F.embedding(places, self.weight)  # [count, n, dim]
            vectors = self.processes.reduce_scatter(found)[: len(ids)]
        return self._found(places, vectors)

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """See `ItemTable.finish_gradients`. Rows that nobody looked up get gradients of zeros, as in
        `WholeTable`."""
        lookups, self.pending, self._inputs = self.pending, [], None
        if not lookups:
            return
        nothing = self.weight.new_zeros(0, self.embedding_dim)
        gradients = [
            (nothing if one.vectors.grad is None else one.vectors.grad, one.places.shape[1])
            for one in lookups
        ]
        places = torch.cat([lookup.places for lookup in lookups], dim=1).flatten()  # [count * n]
        received, groups = of_all(self.processes, places, gradients, self.weight)
        if self.row_gradients is not None:
            self.row_gradients.add(places, received, groups)
            return
        gradient = sum_rows(received, places, len(self.weight), padding=True, groups=groups)
        if self.weight.grad is None:
            self.weight.grad = gradient
        else:
            self.weight.grad += gradient

    def own_rows(self) -> Tensor:
        """See `ItemTable.own_rows`. Gradients are taken for those of the losses of all processes, and are
        averaged like those of look-ups."""
        # All rows have a gradient then, which is no matter of rows: settings refuse it.
        assert self.row_gradients is None or not torch.is_grad_enabled()
        local = torch.arange(len(self.weight), device=self.weight.device)
        vectors = F.embedding(local, self.weight, padding_idx=0)
        if vectors.requires_grad:
            vectors.register_hook(lambda gradient: gradient / self.processes.count)
        return vectors

    @torch.no_grad()
    def gathered(self, own: Tensor) -> Tensor:
        if self.processes.is_first:
            whole = torch.empty(self.num_embeddings, *own.shape[1:], dtype=own.dtype)
        else:
            whole = own.new_empty(0)
        for first, stop in self._ranges(_GATHERED):
            part = self._joined(own, first, stop)
            if self.processes.is_first:
                whole[first:stop] = part
        return whole

    def own_part(self, whole: Tensor) -> Tensor:
        return self.shards.take(whole)

    def _joined(self, own: Tensor, first: int, stop: int) -> Tensor:
        within = self.shards.within(first, stop)
        part = own[within]
        missing = within.stop - within.start - len(part)
        if missing:
            part = torch.cat([part, part.new_zeros(missing, *part.shape[1:])])
        return self.shards.joined(self.processes.all_gather(part), first, stop)

    def _fresh(self) -> Tensor:
        """Initial own rows of a table whose rows do not depend on how many processes there are.

        It is that of `WholeTable`, but for a table too large to be drawn at once.
        """
        own = torch.zeros(self.shards.own, self.embedding_dim)
        for first, stop in self._ranges(_DRAWN):
            drawn = fresh_rows(stop - first, self.embedding_dim)
            places = self.shards.local(torch.arange(first, stop))
            here = places > 0
            own[places[here]] = drawn[here]
        return own

    def _ranges(self, values: int) -> list[tuple[int, int]]:
        """First row and end of ranges of so many values, at most but for a row of more."""
        size = max(1, values // self.embedding_dim)
        return [
            (first, min(first + size, self.num_embeddings)) for first in range(0, self.num_embeddings, size)
        ]
