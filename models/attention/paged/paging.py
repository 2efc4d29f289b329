"""Where the tokens of sequences are in pages, and which of them ask: all that one pass tells the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.attention.bias import RelativeTime
from models.attention.paged.arguments import BLOCK, ROOM
from models.attention.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Paging:
    """Made once a pass and shared by all layers.

    The newest tokens of each sequence ask: events, whose keys and values each layer writes to their places in
    the pages, then candidates, which are in no page. All candidates of a sequence ask at one time.
    """

    table: Tensor
    """[sequences, most] int32 pages of each."""
    page: int
    """Tokens of a page."""
    base: Tensor
    """[sequences] int64 tokens before those that ask."""
    history: Tensor
    """[sequences] int64 tokens without candidates."""
    candidates: Tensor | None
    """[sequences] int64 of each; None where there are none."""
    begin: Tensor
    """[sequences] int64 where those that ask begin among all that ask."""
    happened: Tensor
    """[rows of the pages] int64 seconds, of each token as a key."""
    query_time: Tensor
    """[asking] int64 seconds."""
    timestamp: Tensor
    """[asking] int64 seconds."""
    written: Tensor
    """[asking] int64 rows of the pages that they are written to; the last row is nowhere."""
    longest: int
    """Most tokens of a sequence, candidates included."""
    most_asking: int
    """Of a sequence."""

    @property
    def sequences(self) -> int:
        return self.table.shape[0]

    @property
    def room(self) -> int:
        """Numbers a sequence, where there is one a token."""
        return -(-max(self.longest, 1) // ROOM) * ROOM

    @cached_property
    def relative_time(self) -> RelativeTime:
        """For tables of times; the times themselves are found by the pages."""
        return RelativeTime(self.query_time, self.timestamp, Sequences(self.begin, ()))

    @cached_property
    def users(self) -> Tensor:
        """[4, sequences] int32, as kernels take them: base, history, candidates, begin."""
        none = torch.zeros_like(self.base) if self.candidates is None else self.candidates
        return torch.stack([self.base, self.history, none, self.begin]).to(torch.int32)

    @cached_property
    def seconds(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of queries [asking + 128] int32, of keys [sequences, room], and bounds of blocks [2, sequences,
        blocks] (`seconds`)."""
        from models.attention.paged.seconds import seconds_kernel
        from models.gpu.launcher import launch

        device, blocks = self.table.device, self.room // BLOCK
        queries = torch.empty(len(self.query_time) + ROOM, dtype=torch.int32, device=device)
        keys = torch.empty(self.sequences, self.room, dtype=torch.int32, device=device)
        bounds = torch.empty(2, self.sequences, blocks, dtype=torch.int32, device=device)
        launch(seconds_kernel, (blocks, self.sequences), None, {
            "users": self.users, "num_users": self.sequences, "table": self.table,
            "table_width": self.table.shape[1], "happened": self.happened, "query_time": self.query_time,
            "query_seconds": queries, "seconds": keys, "bounds": bounds, "room": self.room,
            "num_blocks": self.sequences * blocks, "PAGE": self.page,
        })  # fmt: skip
        return queries, keys, bounds
