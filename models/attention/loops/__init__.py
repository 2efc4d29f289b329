"""The loops of the blocked CPU kernel, compiled by Numba: tile by tile, one sequence and head at a time.

Scores are never kept: backward computes each tile of them again. Softmax keeps one number a query, the
logarithm of its normalizer (FlashAttention, arXiv 2205.14135). Scratch memory is a few tiles.

A tile holds numbers of up to `KEYS` keys (rows) against `QUERIES` queries (columns). Queries lie along the
fast axis, and what belongs to them (queries, results, their gradients) is kept transposed as "columns",
[dim, QUERIES]. So every inner loop runs over a constant number of neighbors, whatever the head dimension,
and becomes vector code. `source` and `out` are [tokens, heads, dim] float32, `first` is a token and `rows`
how many of the tile's keys (or queries) exist.

    call         what the loops are told, and where a tile is
    tiles        products of tiles with rows of tensors
    activations  SiLU and softmax of a tile, and their gradients
    visibility   which keys a query sees
    bias         the relative bias of a tile, and its gradients
    passes       forward and backward
"""

from models.attention.loops.bias import find_all_buckets
from models.attention.loops.call import FRAME, IDENTITY, QUERIES, SILU, SOFTMAX, BlockedCall
from models.attention.loops.passes import backward, forward

__all__ = [
    "FRAME",
    "IDENTITY",
    "QUERIES",
    "SILU",
    "SOFTMAX",
    "BlockedCall",
    "backward",
    "find_all_buckets",
    "forward",
]
