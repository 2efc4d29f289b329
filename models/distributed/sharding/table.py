"""An embedding table of which each process holds some rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.distributed.processes import Processes
from models.distributed.sharding.rows import RowShards
from models.layers.initialization import INIT_STD

# Values of the table that are drawn at a time: fewer than the table has, and it is another one.
_DRAWN = 1 << 26
# Values that are gathered at a time, on the device.
_GATHERED = 1 << 24

_embedding_backward: Any = torch.ops.aten.embedding_dense_backward


@dataclass(frozen=True, eq=False)
class _Lookup:
    """One whose gradients have not been sent yet."""

    places: Tensor
    """[count, n] where what each process asked for is among this one's rows; 0: elsewhere."""
    vectors: Tensor
    """[n, dim] what this process got; a leaf of the graph of its loss."""


class ShardedEmbedding(nn.Module):
    """Like `nn.Embedding(num_embeddings, dim, padding_idx=0)`, a share of its rows in each process.

    A look-up tells all processes which rows are asked for; each looks up those it has, zeros for others, and
    everybody gets the sum of what all have found. Gradients go back the other way, in `send_gradients`, which
    is to be called after each backward pass. They do not travel within it: processes work their graphs off in
    an order of their own, in between with what DistributedDataParallel sends, and would wait for each other
    for ever. The order of look-ups is that of the model, the same in all processes; one that has nothing to
    look up asks for nothing, at the same place.

    Args:
        num_embeddings: rows of the whole table, padding included.
        dim: width.
        processes: among which rows are divided.
    """

    def __init__(self, num_embeddings: int, dim: int, processes: Processes) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.processes = num_embeddings, dim, processes
        self.shards = RowShards(num_embeddings, processes.rank, processes.count)
        self.weight = nn.Parameter(self._drawn())
        self.unsent: list[_Lookup] = []

    def forward(self, ids: Tensor) -> Tensor:
        """[n] int64 ids, of a length of this process's own -> [n, dim]. All processes take part."""
        asked = F.pad(ids, (0, self.processes.max(len(ids)) - len(ids)))
        places = self.shards.local(self.processes.all_gather(asked))  # [count, n]
        with torch.no_grad():
            found = F.embedding(places, self.weight)  # [count, n, dim]
            vectors = self.processes.reduce_scatter(found)[: len(ids)]
        if torch.is_grad_enabled():
            self.unsent.append(_Lookup(places, vectors.requires_grad_()))
        return vectors

    @torch.no_grad()
    def send_gradients(self) -> None:
        """Add the gradients of all look-ups since the last call to the table's. All processes take part.

        They are averaged over processes, as DistributedDataParallel averages those of other parameters. A
        row that nobody looked up has a gradient of zeros, as in a dense table.
        """
        lookups, self.unsent = self.unsent, []
        gradients = [self._padded_gradient(lookup) for lookup in lookups]
        if not gradients:
            return
        received = self.processes.all_gather(torch.cat(gradients) / self.processes.count)  # [count, n, dim]
        places = torch.cat([lookup.places for lookup in lookups], dim=1)  # [count, n]
        # Not `index_add_`, whose result depends on the order of threads.
        gradient = _embedding_backward(received, places, len(self.weight), 0, False)
        if self.weight.grad is None:
            self.weight.grad = gradient
        else:
            self.weight.grad += gradient

    def held(self, ids: Tensor) -> Tensor:
        """[n, dim] rows that this process holds itself; their gradients need no sending.

        They are taken for those of the losses of all processes, and averaged like those of look-ups.

        Args:
            ids: [n] int64, of rows held here.
        """
        vectors = F.embedding(self.shards.local(ids), self.weight, padding_idx=0)
        if vectors.requires_grad:
            vectors.register_hook(lambda gradient: gradient / self.processes.count)
        return vectors

    @torch.no_grad()
    def whole(self, own: Tensor) -> Tensor:
        """Gather what belongs to the rows of all processes in host memory. All processes take part.

        Args:
            own: [own rows, ...]: the weight, or what an optimizer keeps of it.

        Returns:
            [num_embeddings, ...] on the first process, and nothing of use on others.
        """
        if self.processes.rank == 0:
            whole = torch.empty(self.num_embeddings, *own.shape[1:], dtype=own.dtype)
        else:
            whole = own.new_empty(0)
        for first, stop in self._ranges(_GATHERED):
            part = self._joined(own, first, stop)
            if self.processes.rank == 0:
                whole[first:stop] = part
        return whole

    def _joined(self, own: Tensor, first: int, stop: int) -> Tensor:
        within = self.shards.within(first, stop)
        part = own[within]
        missing = within.stop - within.start - len(part)
        if missing:
            part = torch.cat([part, part.new_zeros(missing, *part.shape[1:])])
        return self.shards.joined(self.processes.all_gather(part), first, stop)

    def _padded_gradient(self, lookup: _Lookup) -> Tensor:
        gradient = lookup.vectors.grad
        if gradient is None:
            gradient = torch.zeros_like(lookup.vectors)
        return F.pad(gradient, (0, 0, 0, lookup.places.shape[1] - len(gradient)))

    def _drawn(self) -> Tensor:
        """Own rows of a table whose rows do not depend on how many processes there are.

        It is that of a table which is in one place, but for one too large to be drawn at once.
        """
        own = torch.zeros(self.shards.own, self.embedding_dim)
        for first, stop in self._ranges(_DRAWN):
            # As a table in one place is made, whose constructor takes random numbers, too.
            drawn = nn.Embedding(stop - first, self.embedding_dim).weight.detach()
            nn.init.trunc_normal_(drawn, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
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
