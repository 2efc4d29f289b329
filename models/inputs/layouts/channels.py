"""A sequence a behavior, each encoded apart, merged where the model is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.masks import Causal
from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.inputs.layout import EventVectors, Sizes
from models.inputs.tokens import Tokens
from models.layers.initialization import INIT_STD, init_truncated


@dataclass(frozen=True, eq=False)
class ChannelTokens(Tokens):
    """Tokens in the order of channels."""

    place: Tensor = field(kw_only=True)
    """[events] the token of each event."""
    newest: Tensor = field(kw_only=True)
    """[events, behaviors] after each event, the newest token of each channel; one past all: there is none."""
    merge: nn.Module = field(kw_only=True)
    """[events, behaviors * dim] to [events, dim]."""

    def queries(self, outputs: Tensor) -> Tensor:
        """[events, dim]: what its channel says after each event, and what all say, merged; zeros stand for an
        empty one."""
        none = outputs.shape[0]
        rows = torch.cat([outputs, outputs.new_zeros(1, outputs.shape[1])])
        merged: Tensor = self.merge(F.embedding(self.newest, rows, padding_idx=none).flatten(1))
        return F.embedding(self.place, outputs) + merged


class Channels(nn.Module):
    """A channel a behavior: the events of each are a sequence of their own, whose tokens see nothing else.

    One token an event, item plus behavior, so that all channels share the backbone. Positions count within
    the channel. The query after an event is its token's output plus a linear map of the newest outputs of all
    channels side by side, as in Deep Multifaceted Transformers (Gu et al., CIKM 2020), which encode clicks,
    carts and orders apart. Attention costs the squares of the channels' lengths, not that of their sum.
    Only the channel of the newest event knows the time of the query; others that of theirs.

    Two users, six events, three behaviors; `/` stands between channels. Below, after each event, the newest
    token of each channel; 6, one past all of them, where it has none yet:

    >>> from models.inputs.layouts.picture import SIX_EVENTS, picture
    >>> layout = Channels(Sizes(dim=1, num_behaviors=3))
    >>> print(picture(layout, SIX_EVENTS))
    i5+b1? i6+b1? i7+b1? / i5+b2? / -
    i9+b1? / - / i6+b3?
    >>> layout.tokens(SIX_EVENTS).newest.tolist()
    [[0, 6, 6], [1, 6, 6], [1, 3, 6], [2, 3, 6], [6, 6, 5], [4, 6, 5]]
    """

    columns = CORE.select("behavior", "position", "timestamp", "query_time")
    vectors = frozenset({"behavior"})

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.count = sizes.num_behaviors
        self.merge = nn.Linear(self.count * sizes.dim, sizes.dim, bias=False)
        init_truncated(self.merge.weight, INIT_STD)

    def max_tokens(self, max_length: int) -> int:
        return max_length

    def tokens(self, batch: PackedBatch) -> ChannelTokens:
        channel = (batch.behavior - 1).clamp(0, self.count - 1)
        number = torch.arange(batch.num_events, device=channel.device)
        row = torch.searchsorted(batch.offsets[1:], number, right=True)
        inside = row < batch.num_sequences  # others stay where they are, past the last channel
        own = (channel[:, None] == torch.arange(self.count, device=channel.device)) & inside[:, None]
        # Events of each behavior so far, in the batch; of the sequence, those since its start.
        so_far = F.pad(own.long().cumsum(0), (0, 0, 1, 0))  # [events + 1, behaviors]
        at_start = so_far[batch.offsets]  # [sequences + 1, behaviors]
        before, after = so_far[:-1] - at_start[row], so_far[1:] - at_start[row]  # [events, behaviors]
        starts = F.pad(at_start.diff(dim=0).flatten().cumsum(0), (1, 0))  # [sequences * behaviors + 1]
        # One row more, for events past the last sequence.
        begins = F.pad(starts[:-1].view(batch.num_sequences, self.count), (0, 0, 0, 1))[row]
        place = torch.where(inside, _pick(begins + before, channel), number)
        return ChannelTokens(
            sequences=self.sequences(starts, batch.sequences),
            position=_moved(place, _pick(before, channel)),
            timestamp=_moved(place, batch.timestamp),
            query_time=_moved(place, batch.query_time),
            mask=Causal(),
            asking=place,
            place=place,
            newest=torch.where(after > 0, begins + after - 1, batch.num_events),
            merge=self.merge,
        )

    def sequences(self, starts: Tensor, events: Sequences) -> Sequences:
        """One for each sequence and behavior.

        Args:
            starts: [sequences * behaviors + 1] int64.
            events: those of the batch.
        """
        if events.room is None and starts.device.type == "cpu":
            return Sequences.from_offsets(starts)
        # How long a channel is only the device knows, even where the host knows the length of all together.
        return Sequences.unread(starts, tokens=events.num_tokens, longest=events.max_length)

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        assert isinstance(tokens, ChannelTokens)
        first, *others = events.values()
        for vectors in others:
            first = first + vectors
        return _moved(tokens.place, first)


def _pick(table: Tensor, channel: Tensor) -> Tensor:
    """[events] of [events, behaviors]: what belongs to each event's own channel."""
    return table.gather(1, channel[:, None]).squeeze(1)


def _moved(place: Tensor, values: Tensor) -> Tensor:
    """[events, ...] values, each moved to its place."""
    return torch.zeros_like(values).index_copy(0, place, values)
