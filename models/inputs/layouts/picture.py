"""A layout as a line of text a sequence: which token is made of what, and which ask."""

from __future__ import annotations

from itertools import pairwise

import torch

from models.data.batch import PackedBatch
from models.inputs.layout import Layout

SIX_EVENTS = PackedBatch.from_lists(
    [[5, 6, 5, 7], [6, 9]],
    behaviors=[[1, 1, 2, 1], [3, 1]],
    timestamps=[[10, 20, 30, 40], [15, 25]],
).with_values(target_behavior=torch.tensor([1, 2, 1, 3, 1, 2]))
"""Two users, and what each of them does: 1, 2 or 3, with items 5 to 9; 3 and 2 are what comes next."""

_SIGNS = {"item": "i", "behavior": "b", "next_behavior": "b", "query_behavior": "w"}


def picture(layout: Layout, batch: PackedBatch, *added: str) -> str:
    """What a layout makes of a small batch.

    Args:
        layout: of any kind whose tokens are sums of event vectors.
        batch: small.
        added: event vectors that settings add to what the layout needs, `behavior` or `query_behavior`.

    Returns:
        A line a sequence of the batch; where it is several of tokens, these with `/` between them. A token is
        `i5` (item), `b1` (behavior) or `w2` (behavior wanted), sums with `+`; a question mark is behind those
        that ask.
    """
    tokens = layout.tokens(batch)
    names = [name for name in _SIGNS if name == "item" or name in layout.vectors or name in added]
    ids = {"item": batch.item, "behavior": batch.behavior}
    values = [ids.get(name, batch.target_behavior) for name in names]
    # Each kind of vector in a dimension of its own.
    vectors = [number[:, None] * row for number, row in zip(values, torch.eye(len(names)), strict=True)]
    x = layout.arrange(dict(zip(names, vectors, strict=True)), tokens, batch)
    words = [
        "+".join(f"{_SIGNS[n]}{int(v)}" for n, v in zip(names, row, strict=True) if v) for row in x.tolist()
    ]
    asking = range(len(words)) if tokens.asking is None else tokens.asking.tolist()
    told = [f"{word}?" if place in asking else word for place, word in enumerate(words)]
    cuts = tokens.sequences.offsets.tolist()
    rows = [" ".join(told[begin:end]) or "-" for begin, end in pairwise(cuts)]
    each = len(rows) // batch.num_sequences
    return "\n".join(" / ".join(rows[first : first + each]) for first in range(0, len(rows), each))
